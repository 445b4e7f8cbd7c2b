#!/usr/bin/env bash
# Runs one command on every host of one or several TPU slices of a GKE cluster, through xpk.
#
#   CLUSTER=... TPU=v5litepod-256 IMAGE=... [SLICES=2] tools/tpu/gke.sh NAME COMMAND...
#
# IMAGE is a container with mmjax[tpu] in it; a bucket mounted by the cluster (GCS FUSE) is the working directory.
#
#   CLUSTER=pods TPU=v5litepod-256 IMAGE=gcr.io/me/mmjax tools/tpu/gke.sh clip \
#       mmjax train --config pod:clip_l14 --workdir /mnt/bucket/clip \
#       --config.data.source=/mnt/bucket/data --distributed
#
# RESTARTS (default 10) is how often GKE starts an interrupted run again; each goes on where the last one saved.
# PROJECT and ZONE choose the cluster's place; DRY_RUN=1 prints the command and runs nothing.
set -euo pipefail
if (($# < 2)) || [[ -z ${CLUSTER:-} || -z ${TPU:-} || -z ${IMAGE:-} ]]; then
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 2
fi
name=$1
shift
command=$1
(($# == 1)) || command=$(printf '%q ' "$@")
launch=(xpk workload create --workload="$name" --cluster="$CLUSTER" --tpu-type="$TPU"
  --num-slices="${SLICES:-1}" --docker-image="$IMAGE" --max-restarts="${RESTARTS:-10}" --command="$command")
[[ -z ${PROJECT:-} ]] || launch+=(--project="$PROJECT")
[[ -z ${ZONE:-} ]] || launch+=(--zone="$ZONE")
if [[ -n ${DRY_RUN:-} ]]; then
  printf '%q ' "${launch[@]}" && echo
else
  exec "${launch[@]}"
fi

#!/usr/bin/env bash
# Runs one command on every host of a Cloud TPU slice, or of several slices.
#
#   tools/tpu/vm.sh NAME ZONE COMMAND...
#   SLICES=4 tools/tpu/vm.sh QUEUED_RESOURCE ZONE COMMAND...
#
# Install once, then train; the working directory must be one that all hosts see, such as a bucket mounted with
# gcsfuse. --distributed finds the hosts, and with several slices the data-center network between them.
#
#   tools/tpu/vm.sh pod us-west4-a "pip install 'mmjax[tpu] @ git+URL'"
#   tools/tpu/vm.sh pod us-west4-a mmjax train --config pod:clip_l14 --workdir /mnt/bucket/clip \
#       --config.data.source=/mnt/bucket/data --distributed --max-restarts=10
#
# SIGTERM to one host stops all of them, saved:   tools/tpu/vm.sh pod us-west4-a "pkill -TERM -f '[m]mjax train'"
# PROJECT chooses the Google Cloud project; DRY_RUN=1 prints the command and runs nothing.
set -euo pipefail
if (($# < 3)); then
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 2
fi
name=$1 zone=$2
shift 2
command=$1
(($# == 1)) || command=$(printf '%q ' "$@")
where=(--zone="$zone" --worker=all)
[[ -z ${PROJECT:-} ]] || where+=(--project="$PROJECT")
if ((${SLICES:-1} > 1)); then
  launch=(gcloud compute tpus queued-resources ssh "$name" "${where[@]}" --node=all)
else
  launch=(gcloud compute tpus tpu-vm ssh "$name" "${where[@]}")
fi
launch+=(--command="$command")
if [[ -n ${DRY_RUN:-} ]]; then
  printf '%q ' "${launch[@]}" && echo
else
  exec "${launch[@]}"
fi

"""One process of a run on several hosts: `python toy_host.py WORKDIR ADDRESS COUNT INDEX SETTINGS`.

Writes what this process saw to WORKDIR/host-INDEX.json. With "terminate_at" in the settings, the last process
gets a SIGTERM while it makes the batch of that step.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import jax
import toy
from toy_run import run

from mmjax.sharding import ShardingConfig
from mmjax.training import distributed

MESHES = ({}, {"tensor": 8, "data": 1}, {"data": 2, "tensor": 4}, {"data": 1, "fsdp": 4, "tensor": 2})


def batches(first, *, shard, seen, terminate_at=None):
    """This process's rows, and the steps they were made for."""
    index, count = shard
    for step in range(first, 1000):
        seen.append(step)
        if terminate_at is not None and jax.process_index() == jax.process_count() - 1:
            if step == terminate_at:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(2)  # JAX looks for the signal once a second
            elif step > terminate_at:
                time.sleep(0.1)
        rows = toy.batch(step)
        size = len(rows["x"]) // count
        yield {name: value[index * size : (index + 1) * size] for name, value in rows.items()}


def main(workdir, address, count, index, settings):
    settings, seen, told = json.loads(settings), [], {}
    distributed.join(address, int(count), int(index), timeout=120)
    terminate_at = settings.pop("terminate_at", None)
    told["first"] = distributed.from_first(lambda: f"by process {index}: ä")
    told["shards"] = [
        distributed.data_shard(ShardingConfig(**mesh).make_mesh(), 16) if jax.device_count() == 8 else None
        for mesh in MESHES
    ]
    shard = distributed.data_shard(ShardingConfig(**settings["sharding"]).make_mesh(), 16)

    def mine(first):
        return batches(first, shard=shard, seen=seen, terminate_at=terminate_at)

    try:
        run(workdir, batches=mine, **settings)
    finally:
        Path(workdir, f"host-{index}.json").write_text(json.dumps(told | {"steps": seen}))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""One pass of a jitted function over a split: what every evaluator does.

Axes: B rows of a batch, N good records of the split.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from mmjax.data.pipeline import Pipeline
from mmjax.errors import UserError

ABILITIES = {
    "encode_image": "embed pictures",
    "encode_text": "embed text",
    "caption": "write captions",
    "draw": "draw pictures",
}


def ability(system: Any, name: str) -> Callable:
    """The system's method `name`; a UserError says in plain words that it has none."""
    method = getattr(system, name, None)
    if method is None:
        kind = type(system).__name__
        raise UserError(f"a {kind} cannot {ABILITIES[name]}: use the checkpoint of a system that can.")
    return method


def over(
    pipeline: Pipeline,
    function: Callable[[Any, Mapping[str, np.ndarray]], Any],
    params: Any,
    *,
    batch_size: int,
    names: tuple[str, ...],
    limit: int | None = None,
) -> tuple[np.ndarray, Any]:
    """Runs `function(params, {name: array[B, ...]})`, compiled once, over the first `limit` good records.

    The batches have one fixed shape; the rows that fill up the last one never reach the result.

    Returns:
      index: i32[N], the record numbers; and the function's tree with leaves NumPy[N, ...], in record order.

    Raises:
      UserError: not one record of the split can be used.
    """
    run = jax.jit(function, out_shardings=everywhere(params))
    indices, results = [], []
    for batch, rows in _batches(pipeline, batch_size, limit):
        output = run(params, {name: batch[name] for name in names})
        indices.append(batch["index"][rows])
        results.append(jax.tree.map(lambda leaf, rows=rows: np.asarray(leaf)[rows], output))
    if not indices:
        raise UserError(f"split {pipeline.split!r} has no usable record: see the log for what is wrong.")
    return np.concatenate(indices), jax.tree.map(lambda *leaves: np.concatenate(leaves), *results)


def _batches(
    pipeline: Pipeline, batch_size: int, limit: int | None
) -> Iterator[tuple[Mapping[str, np.ndarray], np.ndarray]]:
    """Batches, each with the numbers of its rows that count."""
    left = len(pipeline) if limit is None else limit
    for batch in pipeline.evaluate(batch_size):
        rows = np.flatnonzero(batch["index"] >= 0)[:left]
        if not len(rows):
            return
        left -= len(rows)
        yield batch, rows


def everywhere(params: Any) -> NamedSharding | None:
    """Results are read on every host, so on a mesh they must be replicated; without one, None."""
    for leaf in jax.tree.leaves(params):
        if isinstance(getattr(leaf, "sharding", None), NamedSharding):
            return NamedSharding(leaf.sharding.mesh, PartitionSpec())
    return None

"""A checkpoint written and read a piece at a time, so that no more than one piece is ever in memory.

Orbax saves a tree as a whole. Here it lays out the checkpoint of a model whose parameters are all scalars,
and each parameter is then replaced in the store that Orbax documents as its format: Zarr 3 arrays, named by
their dotted paths, in one OCDBT database. A chunk is a layer of a stack or a part of it. Whoever reads
checkpoints reads these.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore
from flax.traverse_util import unflatten_dict

from mmjax.training.checkpoints import Checkpoints, find
from mmjax.training.state import TrainState

CHUNK_BYTES = 1 << 24  # a write holds about three copies of a chunk

TreePath = tuple[str, ...]

# Nothing waits for the disk after each of hundreds of small writes: a converted checkpoint can be made again.
_CONTEXT = tensorstore.Context({"file_io_sync": False})


@dataclasses.dataclass(frozen=True)
class Leaves:
    """The parameters of one checkpoint as arrays on disk.

    Attributes:
      directory: the step directory.
      kinds: path of each parameter -> 'ema' where it has an average, else 'params'.
    """

    directory: Path
    kinds: Mapping[TreePath, str]

    @classmethod
    def open(cls, directory: str | Path) -> "Leaves":
        """Raises UserError when there is no checkpoint."""
        path = find(directory)
        kinds = {}
        for key in tensorstore.KvStore.open(_database(path)).result().list().result():
            name, _, rest = key.decode().partition("/")
            kind, *leaf = name.split(".")
            if rest == "zarr.json" and (kind == "ema" or (kind == "params" and tuple(leaf) not in kinds)):
                kinds[tuple(leaf)] = kind
        return cls(path, kinds)

    @classmethod
    def lay_out(cls, workdir: Path, dtypes: Mapping[TreePath, np.dtype], run: Mapping[str, Any]) -> "Leaves":
        """A new checkpoint at step 0; every parameter has yet to be written."""
        state = TrainState(
            step=jnp.int32(0),
            params=unflatten_dict({path: np.zeros((), dtype) for path, dtype in dtypes.items()}),
            optimizer_state=(),
            ema=None,
            key=jax.random.key(0),
            healthy=jnp.bool_(True),
        )
        with Checkpoints(workdir) as checkpoints:
            checkpoints.save(0, state, data={}, run=run)
        return cls(find(workdir), dict.fromkeys(dtypes, "params"))

    def shapes(self) -> dict[TreePath, jax.ShapeDtypeStruct]:
        """Shapes and types of all parameters."""
        arrays = {path: self._array(path) for path in self.kinds}
        return {p: jax.ShapeDtypeStruct(a.shape, a.dtype.numpy_dtype) for p, a in arrays.items()}

    def write(
        self, path: TreePath, layers: Iterator[np.ndarray], *, shape: tuple[int, ...], stacked: int
    ) -> None:
        """Writes a parameter.

        Args:
          layers: its layers one after the other, or all of it where nothing is stacked.
          stacked: leading axes that count layers.
        """
        array, count = None, math.prod(shape[:stacked])
        for done, index in enumerate(np.ndindex(shape[:stacked])):
            value = next(layers, None)
            if value is None:
                raise ValueError(f"{'/'.join(path)} came with {done} layers of {count}")
            array = self._create(path, shape, value.dtype, stacked) if array is None else array
            value = np.reshape(value, shape[stacked:])
            for part in _parts(array, stacked):
                array[(*index, *part)].write(value[part]).result()
            del value  # before the next one is made

    def read(self, path: TreePath, *, stacked: int) -> Iterator[np.ndarray]:
        """The layers of a parameter in order; in memory are only those that share a chunk."""
        array = self._array(path)
        if not stacked:
            yield _fetch(array, (), 0)
            return
        rows = array.chunk_layout.read_chunk.shape[0]
        for start in range(0, array.shape[0], rows):
            value = _fetch(array, (slice(start, min(start + rows, array.shape[0])),), stacked)
            yield from value.reshape(-1, *array.shape[stacked:])
            del value  # before the next one is read

    def _create(
        self, path: TreePath, shape: tuple[int, ...], dtype: np.dtype, stacked: int
    ) -> tensorstore.TensorStore:
        chunk = [1] * stacked + [max(n, 1) for n in shape[stacked:]]
        if shape[stacked:]:
            row = dtype.itemsize * math.prod(chunk[stacked + 1 :])
            chunk[stacked] = min(chunk[stacked], max(CHUNK_BYTES // row, 1))
        metadata = {
            "shape": list(shape),
            "data_type": dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        }
        # Orbax takes a chunk that is not stored for a damaged checkpoint, even if it would be all zeros.
        fields = {"metadata": metadata, "store_data_equal_to_fill_value": True}
        return self._array(path, fields, create=True, delete_existing=True)

    def _array(
        self, path: TreePath, fields: Mapping[str, Any] | None = None, **options
    ) -> tensorstore.TensorStore:
        name = ".".join((self.kinds[path], *path))
        kvstore = {**_database(self.directory), "path": f"{name}/"}
        spec = {"driver": "zarr3", "kvstore": kvstore, **(fields or {})}
        return tensorstore.open(spec, context=_CONTEXT, **options).result()


def _parts(array: tensorstore.TensorStore, axis: int) -> Iterator[tuple[slice, ...]]:
    """The chunks along an axis, as indices of that axis; () where there is none."""
    if axis == array.rank:
        yield ()
        return
    step, size = array.chunk_layout.read_chunk.shape[axis], array.shape[axis]
    for start in range(0, size, step):
        yield (slice(start, min(start + step, size)),)


def _fetch(array: tensorstore.TensorStore, rows: tuple[slice, ...], stacked: int) -> np.ndarray:
    """The given rows of the first axis, chunk by chunk of the first axis that does not count layers."""
    first = (rows[0].stop - rows[0].start,) if rows else ()
    value = np.empty((*first, *array.shape[len(rows) :]), array.dtype.numpy_dtype)
    between = (slice(None),) * (stacked - len(rows))
    for part in _parts(array, stacked):
        whole = (slice(None),) * len(rows)
        value[(*whole, *between, *part)] = array[(*rows, *between, *part)].read().result()
    return value


def _database(directory: Path) -> dict[str, Any]:
    return {"driver": "ocdbt", "base": f"file://{directory / 'state'}/"}

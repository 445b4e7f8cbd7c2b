"""Batches in memory that is lent by the process that fills it to the one that reads it, without a copy.

A `Lender` gives memory without a name to each batch, `Lent` passes through a queue as a few words that say
where it lies, and the reader maps it. When the last array of the batch is gone there, the first byte says so,
and the lender writes another batch into the same pages. So no batch is copied, no page is given out anew by
the kernel, /dev/shm (64 MB in most containers) is not needed, and nothing is left behind by a process that is
killed: the memory lives as long as a process has it mapped.
"""

from __future__ import annotations

import functools
import math
import mmap
import os
import threading
import weakref
from collections.abc import Iterator, Mapping

import numpy as np

from mmjax.errors import UserError

POSSIBLE = hasattr(os, "memfd_create")  # on Linux
ALIGNMENT = 64  # bytes: of a cache line, and of what XLA on CPU uses in place
FREE, TAKEN = 0, 1  # the first byte of the memory of a batch; its arrays begin after ALIGNMENT bytes

_Layout = dict[str, tuple[str, tuple[int, ...], int]]  # type, shape and first byte of each array
_Place = tuple[int, int, int]  # process, file descriptor there, bytes


class Lent(Mapping[str, np.ndarray]):
    """The arrays of a batch in lent memory; pickled, where they lie. A reader maps them when it looks at one.

    Raises:
      ChildProcessError: the process that lent them ended before.
      UserError: the system (a sandbox) keeps processes from each other's memory.
    """

    def __init__(self, layout: _Layout, place: _Place, memory: mmap.mmap | None = None):
        self._layout, self._place, self._memory = layout, place, memory

    @functools.cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        read = self._memory is None
        memory = _mapped(*self._place) if read else self._memory
        whole = np.frombuffer(memory, np.uint8)
        if read:  # all arrays of the batch, and parts of them, hold `whole`
            weakref.finalize(whole, memory.__setitem__, 0, FREE).atexit = False
        return {
            name: np.frombuffer(whole, kind, math.prod(shape), first).reshape(shape)
            for name, (kind, shape, first) in self._layout.items()
        }

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layout)

    def __len__(self) -> int:
        return len(self._layout)

    def __reduce__(self):
        return Lent, (self._layout, self._place)


class Lender:
    """Memory of this process, taken again for another batch when its reader is done with it."""

    def __init__(self):
        self._lock = threading.Lock()
        self._memories: dict[int, mmap.mmap] = {}  # by file descriptor

    def lend(self, row: Mapping[str, np.ndarray], count: int) -> Lent:
        """Memory for `count` rows of these shapes, to be filled before it is passed on."""
        layout, size = _layout(row, count)
        with self._lock:
            descriptor, memory = self._free(size)
            memory[0] = TAKEN
        return Lent(layout, (os.getpid(), descriptor, len(memory)), memory)

    def _free(self, size: int) -> tuple[int, mmap.mmap]:
        """Memory that nobody reads, of at least so many bytes."""
        free = [number for number, memory in self._memories.items() if memory[0] == FREE]
        descriptor = free[0] if free else os.memfd_create("mmjax")
        if not free or len(self._memories[descriptor]) < size:
            os.ftruncate(descriptor, size)
            self._memories[descriptor] = mmap.mmap(descriptor, size)
        return descriptor, self._memories[descriptor]


def _mapped(process: int, descriptor: int, size: int) -> mmap.mmap:
    try:
        with open(f"/proc/{process}/fd/{descriptor}", "r+b", buffering=0) as file:
            return mmap.mmap(file.fileno(), size)
    except FileNotFoundError:
        raise ChildProcessError(
            f"process {process}, which prepared a batch, ended before it was read"
        ) from None
    except PermissionError:
        raise UserError(
            f"this system does not let a process read the memory that process {process} lends it: set "
            "data.processes=0"
        ) from None


def _layout(row: Mapping[str, np.ndarray], count: int) -> tuple[_Layout, int]:
    """Where each array of so many rows lies, and the number of bytes of all."""
    layout, end = {}, ALIGNMENT
    for name, array in row.items():
        layout[name] = (array.dtype.str, (count, *array.shape), end)
        end += -(-count * array.nbytes // ALIGNMENT) * ALIGNMENT
    return layout, end

"""Processes that prepare batches beside the training process, see `DataConfig.processes`."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator

import grain
from absl import flags, logging

from mmjax.errors import UserError


def spread(batches: grain.IterDataset, processes: int) -> grain.IterDataset:
    """The same batches in the same order, prepared by so many processes."""
    if not flags.FLAGS.is_parsed():  # Grain asks absl's flags, which a program without `app.run` never parses
        flags.FLAGS.mark_as_parsed()
    options = grain.MultiprocessingOptions(num_workers=processes)
    return batches.mp_prefetch(options, worker_init_fn=_begin)


class Watched(Iterator):
    """The same batches. That a process which prepares them has died is said in a sentence.

    Raises:
      UserError: while iterating, a process is gone.
    """

    def __init__(self, batches: grain.DatasetIterator):
        self._batches = batches

    def __next__(self):
        try:
            return next(self._batches)
        except (RuntimeError, ChildProcessError) as error:
            if isinstance(error, RuntimeError) and "Worker process was terminated" not in str(error):
                raise
            raise UserError(
                "a process that prepares batches ended unexpectedly, perhaps killed for want of memory: "
                "lower data.processes and start the run again, it goes on from its last save"
            ) from error

    def close(self) -> None:
        self._batches.close()


def _begin(index: int, count: int) -> None:
    """Leaves to the training process what is its own to do: to log, to heed signals, and to say when it ends.

    A scheduler's SIGTERM and a Ctrl-C go to all processes of a run; the last batches before it stops must
    still come. But where the training process is killed, nobody is left to end this one.
    """
    logging.set_verbosity(logging.ERROR)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(process: multiprocessing.process.BaseProcess) -> None:
    process.join()
    os._exit(1)

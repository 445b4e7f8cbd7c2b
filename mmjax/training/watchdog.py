"""Tells when a run hangs: who waits for what, on every host, and ends the process if asked to."""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import jax

from mmjax.errors import EXIT_TEMPORARY


class Watchdog:
    """A thread that writes the stacks of all threads when no update was finished for `seconds`.

    It does so once per hang, to stderr and to WORKDIR/stacks-<process>.txt; the next `beat` arms it again. In
    a collective that one host never entered, the stacks of that host are the ones to read.

    Args:
      seconds: 0 for no watchdog. The first update counts from the start, so compilation is part of it.
      leave: end the process with code 75 after that, as a restart is the only way out of most hangs.
      doing: says in words what the loop is at.
    """

    def __init__(
        self, seconds: float, workdir: Path, *, leave: bool = False, doing: Callable[[], str] = lambda: ""
    ):
        self._seconds, self._path, self._leave, self._doing = seconds, workdir, leave, doing
        self._last = time.monotonic()
        self._told = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def beat(self) -> None:
        """An update was finished."""
        self._last, self._told = time.monotonic(), False

    def __enter__(self) -> "Watchdog":
        if self._seconds:
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed.set()
        if self._seconds:
            self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(self._seconds / 10):
            if not self._told and time.monotonic() - self._last > self._seconds:
                self._told = True
                self._tell()

    def _tell(self) -> None:
        path = self._path / f"stacks-{jax.process_index()}.txt"
        sentence = (
            f"mmjax: process {jax.process_index()} finished no update for {self._seconds:g} s "
            f"(training.hang_seconds) while at: {self._doing()}; the stacks of its threads are in {path}"
        )
        self._path.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            print(sentence, file=file, flush=True)
            faulthandler.dump_traceback(file)
        print(sentence, file=sys.__stderr__, flush=True)
        faulthandler.dump_traceback(sys.__stderr__)
        if self._leave:
            os._exit(EXIT_TEMPORARY)  # the main thread hangs: it would never see an exception

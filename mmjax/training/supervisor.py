"""Runs a training command again when it ends before its time."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from mmjax.errors import EXIT_USER_ERROR

LONGEST_WAIT = 60.0  # seconds


def supervise(
    command: Sequence[str],
    restarts: int,
    *,
    progress: Callable[[], Any],
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Runs `command` until it ends well; returns the exit code to end with.

    Every crash and every interruption is followed by a restart, after 1, 2, 4, ... seconds. Not so a user
    error (2), which would come again; nor the end that somebody asked for by SIGTERM or Ctrl-C here.

    Args:
      restarts: in a row, as long as `progress` does not change.
      progress: the newest checkpoint.
    """
    asked: list[int] = []
    child: subprocess.Popen | None = None

    def forward(number: int, frame: Any) -> None:
        asked.append(number)
        if child is not None and number == signal.SIGTERM:  # Ctrl-C reaches the child by itself
            child.send_signal(number)

    previous = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        tried, before = 0, progress()
        while True:
            child = subprocess.Popen(command)
            code = child.wait()
            if code in (0, EXIT_USER_ERROR) or asked:
                return code if code >= 0 else 128 - code
            now = progress()
            tried, before = (0 if now != before else tried) + 1, now
            ended = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            if tried > restarts:
                why = f"{restarts} restarts brought no new checkpoint"
                print(f"\nmmjax: the run {ended}; {why}", file=sys.stderr)
                return code if code >= 0 else 128 - code
            wait = min(2.0 ** (tried - 1), LONGEST_WAIT)
            print(  # a killed run leaves its progress bar's line open
                f"\nmmjax: the run {ended} at checkpoint {now}; restart {tried} of {restarts} in {wait:g} s",
                file=sys.stderr,
                flush=True,
            )
            sleep(wait)
            if asked:
                return 128 + asked[0]
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

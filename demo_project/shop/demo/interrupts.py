"""Ctrl-C that cannot come at a bad moment: it sets a flag, and every wait looks at the flag.

tox hands on up to three signals for one Ctrl-C; only the first of them counts.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PAUSE = 0.1


class Interrupted(Exception):
    """The demo was asked to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


class Interrupts:
    """Catches the signals that end a program, from `catch()` to `ignore()`."""

    def __init__(self) -> None:
        self._caught = 0

    def catch(self) -> None:
        for number in STOPPING:
            signal.signal(number, self._note)

    def ignore(self) -> None:
        """From now on nothing stops this process, which is at its end."""
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._caught = self._caught or number

    def check(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self._caught:
            raise Interrupted(self._caught)

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until the condition holds; False if it does not within that many seconds."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() >= deadline:
                return False
            time.sleep(PAUSE)
        return True

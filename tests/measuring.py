"""Coverage of worker processes, most of which end by SIGKILL and so save nothing at their end.

A file that a SIGKILL cuts in the middle of a save is left out by `coverage combine`, which warns.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from threading import Event, Thread
from typing import Any

PERIOD = 0.5
"""Seconds between two saves; what runs later than the last one is not counted."""


def keep_saving(**_: Any) -> None:
    """Save again and again what a `celery worker` and its forks have run, if that is measured.

    Tests that make a worker in their own process save at its end as they are.
    """
    if getattr(sys.modules["__main__"].__spec__, "name", "") != "celery.__main__":
        return
    try:
        from coverage import Coverage
    except ImportError:
        return
    if Coverage.current() is not None:
        os.register_at_fork(after_in_child=_start)
        _start()


def _start() -> None:
    Thread(target=_save, name="coverage", daemon=True).start()


def _save() -> None:
    from coverage import Coverage
    from coverage.exceptions import CoverageException

    pause = Event()
    while (measured := Coverage.current()) is not None:
        pause.wait(PERIOD)
        with suppress(CoverageException):
            measured.save()

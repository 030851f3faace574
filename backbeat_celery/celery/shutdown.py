"""Tell a shutdown of the worker, and a kill by it, from a handler that exits by itself."""

from __future__ import annotations

import mmap
from typing import Any

from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]
from celery.exceptions import WorkerShutdown, WorkerTerminate

# One byte that the main process shares with the children it forks: they are ended by the
# same SIGTERM at a shutdown, at a hard time limit and when a message is revoked.
_going_down = mmap.mmap(-1, 1)


def note_shutdown(**_: Any) -> None:
    """In the main process, when it is told to stop: let the children know."""
    _going_down[0] = 1


def note_start() -> None:
    """In the main process, when a worker starts."""
    _going_down[0] = 0


def is_shutdown(exc: BaseException) -> bool:
    """Tell whether `exc` ended a handler because its worker is going down."""
    if isinstance(exc, (WorkerShutdown, WorkerTerminate)):
        return True
    return isinstance(exc, (SystemExit, KeyboardInterrupt)) and _going_down[0] == 1


def is_kill(exc: BaseException) -> bool:
    """Tell whether the main process is ending this child; it knows why and sees to the node."""
    return isinstance(exc, SystemExit) and terminate_handler_fired() and _going_down[0] == 0

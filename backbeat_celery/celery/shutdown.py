"""Tell a shutdown of the worker from a handler that exits."""

from __future__ import annotations

from billiard.common import terminate_handler_fired
from celery.exceptions import WorkerShutdown, WorkerTerminate
from celery.worker import state


def is_shutdown(exc: BaseException) -> bool:
    """Tell whether `exc` ended a handler because its worker is going down."""
    if isinstance(exc, (WorkerShutdown, WorkerTerminate)):
        return True
    if not isinstance(exc, (SystemExit, KeyboardInterrupt)):
        return False
    # False stands for "not shutting down"; an exit code of 0 is a shutdown, too.
    is_going_down = state.should_stop not in (None, False) or state.should_terminate not in (
        None,
        False,
    )
    return is_going_down or terminate_handler_fired() or isinstance(exc, KeyboardInterrupt)

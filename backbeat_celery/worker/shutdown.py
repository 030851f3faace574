"""Distinguish a shutdown of the worker, and a kill by it, from a handler that exits itself."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable
from typing import Any

from celery import bootsteps, current_task
from celery.exceptions import WorkerShutdown, WorkerTerminate
from celery.platforms import EX_FAILURE

from backbeat_celery.runtime.compat.celery import headers_of_call, is_terminated
from backbeat_celery.runtime.current_node import running
from backbeat_celery.worker.message import has_header

# One byte that the main process shares with its children. They receive the same SIGTERM in a
# shutdown, at a hard time limit and when a message is revoked.
_going_down = mmap.mmap(-1, 1)


def note_shutdown(**_: Any) -> None:
    """In the main process, when a shutdown starts: inform the children."""
    _going_down[0] = 1


def note_start() -> None:
    """In the main process, when the worker starts."""
    _going_down[0] = 0


class ColdShutdownStep(bootsteps.Step):
    """Informs the children of a cold shutdown before Celery ends their tasks.

    Celery sends `worker_shutting_down` only afterwards.
    """

    def __init__(self, consumer: Any, **options: Any) -> None:
        from backbeat_celery.runtime.compat.worker import around_cold_shutdown

        super().__init__(consumer, **options)
        around_cold_shutdown(consumer, _cancel)


class ConnectionLossStep(bootsteps.Step):
    """Lets the handlers of nodes go on when the connection to the broker is lost.

    Celery's worker_cancel_long_running_tasks_on_connection_loss ends tasks with late
    acknowledgement, since they are delivered again. A node's second delivery claims nothing.
    """

    def __init__(self, consumer: Any, **options: Any) -> None:
        from backbeat_celery.runtime.compat.worker import around_connection_loss

        super().__init__(consumer, **options)
        around_connection_loss(consumer, _keep_nodes_running)


def _keep_nodes_running(connection_lost: Callable[[Any], None], exc: Any) -> None:
    from backbeat_celery.runtime.compat.worker import (
        active_requests,
        as_acknowledged,
        headers_of,
        is_acknowledged,
    )

    requests = tuple(active_requests)
    nodes = [r for r in requests if has_header(headers_of(r)) and not is_acknowledged(r)]
    with as_acknowledged(nodes):  # Celery cancels only what is not acknowledged
        connection_lost(exc)


def _cancel(cancel_active_requests: Callable[[], None]) -> None:
    note_shutdown()
    try:
        cancel_active_requests()
    except NotImplementedError:
        # The pool cannot interrupt tasks. In the solo pool this would be raised in the handler.
        if not current_task or not has_header(headers_of_call(current_task.request)):
            raise
        if running.get() is not None:
            raise WorkerTerminate(EX_FAILURE) from None


def is_going_down() -> bool:
    """Tell whether this worker is in a shutdown."""
    return _going_down[0] == 1


def is_shutdown(exc: BaseException) -> bool:
    """Tell whether `exc` ended a handler because of a shutdown of its worker."""
    if isinstance(exc, (WorkerShutdown, WorkerTerminate)):
        return True
    is_exit = isinstance(exc, (SystemExit, KeyboardInterrupt)) or _is_greenlet_exit(exc)
    return is_exit and is_going_down()


def _is_greenlet_exit(exc: BaseException) -> bool:
    greenlet = sys.modules.get("greenlet")
    return greenlet is not None and isinstance(exc, greenlet.GreenletExit)


def is_kill(exc: BaseException) -> bool:
    """Tell whether the main process ends this child; it then also ends the node's attempt."""
    return isinstance(exc, SystemExit) and is_terminated() and not is_going_down()

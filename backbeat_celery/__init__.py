"""Durable workflow trees on Django and Celery.

The public names are handed out lazily: importing this package must work before
Django's app registry is ready, because Celery task modules and settings do it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backbeat_celery.api import complete_by_token as complete_by_token
    from backbeat_celery.api import fail_by_token as fail_by_token
    from backbeat_celery.api import signal as signal
    from backbeat_celery.api import signal_many as signal_many
    from backbeat_celery.results import NodeResult as NodeResult
    from backbeat_celery.runtime.current_node import current_node as current_node
    from backbeat_celery.states import Mode as Mode
    from backbeat_celery.worker.task import NodeTask as NodeTask
    from backbeat_celery.worker.task import node_task as node_task

__all__ = [
    "Mode",
    "NodeResult",
    "NodeTask",
    "complete_by_token",
    "current_node",
    "fail_by_token",
    "node_task",
    "signal",
    "signal_many",
]

__version__ = "0.1.0"

_HOMES = {
    "Mode": "backbeat_celery.states",
    "complete_by_token": "backbeat_celery.api",
    "NodeResult": "backbeat_celery.results",
    "NodeTask": "backbeat_celery.worker.task",
    "current_node": "backbeat_celery.runtime.current_node",
    "fail_by_token": "backbeat_celery.api",
    "node_task": "backbeat_celery.worker.task",
    "signal": "backbeat_celery.api",
    "signal_many": "backbeat_celery.api",
}


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(home), name)

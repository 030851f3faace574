"""Durable workflow trees on Django and Celery.

The public names are handed out lazily: importing this package must work before
Django's app registry is ready, because Celery task modules and settings do it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backbeat_celery.api import signal as signal
    from backbeat_celery.api import signal_many as signal_many
    from backbeat_celery.celery.task import NodeTask as NodeTask
    from backbeat_celery.celery.task import node_task as node_task
    from backbeat_celery.context import current_node as current_node
    from backbeat_celery.states import Mode as Mode

__all__ = ["Mode", "NodeTask", "current_node", "node_task", "signal", "signal_many"]

__version__ = "0.1.0"

_HOMES = {
    "Mode": "backbeat_celery.states",
    "NodeTask": "backbeat_celery.celery.task",
    "current_node": "backbeat_celery.context",
    "node_task": "backbeat_celery.celery.task",
    "signal": "backbeat_celery.api",
    "signal_many": "backbeat_celery.api",
}


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(home), name)

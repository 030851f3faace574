"""Refuse tasks whose class does what a node cannot, and say what to do instead."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from celery import Task

from backbeat_celery.exceptions import UnsupportedOption

SAFE_STRATEGY = "backbeat_celery.worker.strategy:safe_strategy"
STRATEGIES = (Task.Strategy, SAFE_STRATEGY)
"""The strategies of tasks that may be nodes: Celery's default, and ours."""

LOCKING = "celery_singleton"
"""A package that locks a call when it is sent, and drops an identical second one."""

_honoured: WeakSet[type[Any]] = WeakSet()
"""Classes that were checked: each signal asks."""


def refuse_foreign(task: Task[Any, Any]) -> None:
    """Raise UnsupportedOption for a task of a class that cannot be honoured."""
    cls = task.__class__  # also of a proxy
    if cls in _honoured:
        return
    if task.Strategy not in STRATEGIES:
        raise UnsupportedOption(
            f"{task.name} cannot be a node: its class takes messages off the queue in its own way "
            "(Strategy), as celery-batches does, and a node's message has no arguments. Call it "
            "by delay() in the handler of another task.",
            anchor="task-classes",
        )
    if any(base.__module__.partition(".")[0] == LOCKING for base in cls.__mro__):
        raise UnsupportedOption(
            f"{task.name} cannot be a node: celery-singleton drops a call while another like it "
            "is under way, and a node is never dropped. Write it as an ordinary task and give "
            "its signals a key, or call it by delay() in the handler of another task.",
            anchor="task-classes",
        )
    _honoured.add(cls)

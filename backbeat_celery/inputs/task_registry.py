"""The tasks of the Celery app, found also in a process that has imported none of them.

Only a worker imports the project's task modules when it starts; Celery leaves them to a web
process or a command that asks for a task. The result must not depend on earlier calls.
"""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery, Task
from django.core.exceptions import AppRegistryNotReady

from backbeat_celery.exceptions import UnknownTask
from backbeat_celery.runtime.compat.celery import app_in_use, import_task_modules, tasks_of

logger = logging.getLogger(__name__)

_loaded: WeakKeyDictionary[Celery, str] = WeakKeyDictionary()
"""The apps whose modules were imported, each with what went wrong, if anything."""


def known_task(name: str) -> Task[Any, Any] | None:
    """Find a task by name, importing the project's task modules once a process if need be.

    None for a task that this process cannot know: its module is not part of this image, is
    broken, or belongs to another code base.
    """
    app = app_in_use()
    tasks = tasks_of(app)
    if name and name not in tasks:
        load_tasks()
    return tasks.get(name)


def load_tasks() -> None:
    """Import what a worker would import, once a process.

    A module that cannot be imported is logged once, and its tasks stay unknown.
    """
    app = app_in_use()
    if app in _loaded:
        return
    trouble = ""
    try:
        import_task_modules(app)
    except AppRegistryNotReady:
        return  # too early to know; the next call asks again
    except Exception as exc:  # any error that a module of the project raises while it is imported
        logger.exception("Cannot import the task modules; what they define is unknown here.")
        trouble = repr(exc)
    _loaded[app] = trouble


def import_trouble() -> str:
    """What went wrong when the task modules were imported; empty if nothing did."""
    return _loaded.get(app_in_use(), "")


def unknown_task(name: str) -> UnknownTask:
    """Say that no such task is registered, and what may be the reason."""
    if trouble := import_trouble():
        return UnknownTask(
            f"No task {name!r} is registered, and a task module cannot be imported: {trouble}."
        )
    return UnknownTask(
        f"No task {name!r} is registered with the Celery app {app_in_use().main!r}. Check "
        "the name, and that the module which defines it is imported (autodiscover_tasks). If "
        f"another code base runs it, name its queue: signature({name!r}, queue=...)."
    )

"""Find the queue of a node's message, as `send_task()` would."""

from __future__ import annotations

from typing import Any

from backbeat_celery.inputs.policy import sent_options
from backbeat_celery.inputs.task_registry import known_task
from backbeat_celery.runtime.compat.celery import app_in_use, route_of


def queue_of(task: str, options: dict[str, Any]) -> str:
    """Name the queue of a node's message; empty if an exchange decides.

    Raises whatever a router of the project raises.
    """
    known = known_task(task)
    # As in send_task(): the task's own options, then those of the call.
    own = {} if known is None else sent_options(known)
    route = route_of(app_in_use(), {**own, **options}, task, known)
    queue = route.get("queue")
    return str(getattr(queue, "name", queue) or "")


def known_queue(task: str, options: dict[str, Any]) -> str:
    """Name the queue of a node's message; empty if it cannot be found."""
    try:
        return queue_of(task, options)
    except Exception:  # a router of the project, or options that no router accepts
        return ""

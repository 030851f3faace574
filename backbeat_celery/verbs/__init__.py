"""The public operations: what users, the admin and the commands call.

Each verb is one transaction; messages are published after the commit.
"""

from backbeat_celery.verbs.nodes import cancel, cancel_previous, reset, resolve, retry, shutdown
from backbeat_celery.verbs.reports import complete, complete_by_ticket, fail, fail_by_ticket
from backbeat_celery.verbs.signals import add_child, send, signal_workflow
from backbeat_celery.verbs.values import get_result
from backbeat_celery.verbs.workflows import (
    cancel_workflow,
    close,
    delete_workflow,
    pause,
    resume,
)

__all__ = [
    "add_child",
    "cancel",
    "cancel_previous",
    "cancel_workflow",
    "close",
    "complete",
    "complete_by_ticket",
    "delete_workflow",
    "fail",
    "fail_by_ticket",
    "get_result",
    "pause",
    "reset",
    "resolve",
    "resume",
    "retry",
    "send",
    "shutdown",
    "signal_workflow",
]

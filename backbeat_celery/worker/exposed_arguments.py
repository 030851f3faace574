"""What others are told of a node's call: receivers of Celery's signals, monitors, Sentry.

A node's message has no arguments. Celery hands one list and one dictionary to all who hear of a
call, so these are filled when the attempt is claimed, with what `REDACT` leaves to be seen.
"""

from __future__ import annotations

import sys
from typing import Any

from backbeat_celery.inputs.redaction import redact, redact_args
from backbeat_celery.models import Node

MARK = "***"


class Told:
    """The arguments of a task call, as Celery hands them to everybody."""

    def __init__(self, args: Any, kwargs: Any) -> None:
        self._args = args
        self._kwargs = kwargs

    def tell(self, node: Node) -> None:
        """Let them be those of a node."""
        if isinstance(self._args, list) and isinstance(self._kwargs, dict):
            self._args[:] = redact_args(node.task, node.args, MARK)
            self._kwargs.clear()
            self._kwargs.update(redact(node.kwargs, MARK))
        _tell_sentry(node)


def _tell_sentry(node: Node) -> None:
    """Put the node on events of this call, where Sentry's Celery integration is at work."""
    sentry: Any = sys.modules.get("sentry_sdk")
    client = sentry.get_client() if hasattr(sentry, "get_client") else None
    if client is None or client.get_integration("celery") is None:
        return  # nobody would take them off again after the call
    sentry.set_tag("backbeat.node", str(node.pk))
    about = {"node": str(node.pk), "workflow": str(node.workflow_id), "attempt": node.attempt}
    sentry.set_context("backbeat", about)

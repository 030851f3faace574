"""The arguments of a node that signal receivers, monitors and Sentry see.

A node's message has no arguments. Celery passes the same list and dictionary to all receivers of
a task call. They are filled when the attempt is claimed, with redacted arguments (`REDACT`).
"""

from __future__ import annotations

import sys
from typing import Any

from backbeat_celery.inputs.redaction import given_arguments, redact_args, redact_kwargs
from backbeat_celery.models import Node

MARK = "***"


class ExposedArguments:
    """The list and the dictionary that Celery passes to all receivers of a task call."""

    def __init__(self, args: Any, kwargs: Any) -> None:
        self._args = args
        self._kwargs = kwargs

    def show(self, node: Node) -> None:
        """Fill them with the redacted arguments of a node."""
        if isinstance(self._args, list) and isinstance(self._kwargs, dict):
            given = given_arguments(node)
            self._args[:] = redact_args(node.task, node.args, MARK, given=given)
            self._kwargs.clear()
            self._kwargs.update(redact_kwargs(node.task, node.kwargs, MARK))
        _show_in_sentry(node)


def _show_in_sentry(node: Node) -> None:
    """Add the node to Sentry's events of this call, if its Celery integration is active."""
    sentry: Any = sys.modules.get("sentry_sdk")
    client = sentry.get_client() if hasattr(sentry, "get_client") else None
    if client is None or client.get_integration("celery") is None:
        return  # without it they would stay set after the call
    sentry.set_tag("backbeat.node", str(node.pk))
    about = {"node": str(node.pk), "workflow": str(node.workflow_id), "attempt": node.attempt}
    sentry.set_context("backbeat", about)

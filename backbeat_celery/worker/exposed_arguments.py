"""The arguments of a node that signal receivers, monitors and Sentry see.

A node's message has no arguments. Celery passes the same list and dictionary to all receivers of
a task call. They are filled when the attempt is claimed, with redacted arguments (`REDACT`).
"""

from __future__ import annotations

import sys
from typing import Any

from celery.app.task import Context

from backbeat_celery.conf import settings
from backbeat_celery.engine.claim import Claim
from backbeat_celery.engine.values import LazyInput
from backbeat_celery.inputs.redaction import given_arguments, redact_args, redact_kwargs, scrub
from backbeat_celery.models import Node
from backbeat_celery.worker.shown_errors import without_secrets

MARK = "***"


class ExposedArguments:
    """The list and the dictionary that Celery passes to all receivers of a task call."""

    def __init__(self, args: Any, kwargs: Any) -> None:
        self._args = args
        self._kwargs = kwargs

    def show(self, claim: Claim) -> None:
        """Fill them with the redacted arguments of a node."""
        node = claim.node
        if isinstance(self._args, list) and isinstance(self._kwargs, dict):
            self._args[:] = _exposed_args(claim)
            self._kwargs.clear()
            self._kwargs.update(redact_kwargs(node.task, node.kwargs, MARK))
        _show_in_sentry(node)

    def replace(self, request: Any) -> None:
        """Put them in the place of the arguments that the handler has seen."""
        # In place: Celery has the list and the dictionary in its hands already.
        request.args[:] = self._args
        request.kwargs.clear()
        request.kwargs.update(self._kwargs)


def _exposed_args(claim: Claim) -> list[Any]:
    node = claim.node
    args = redact_args(node.task, node.args, MARK, given=given_arguments(node))
    if not settings.redact:
        return args
    is_errback = bool(node.args) and isinstance(node.args[0], Context)
    secrets = claim.given_secrets if is_errback else set()
    return [_without_secrets(each, secrets) for each in args]


def _without_secrets(value: Any, secrets: set[str]) -> Any:
    """Hide what `redact_args` cannot look into: what an error callback gets, and unread values."""
    if isinstance(value, LazyInput):
        return MARK
    if isinstance(value, Context):
        request = vars(value)
        args = redact_args(request["task"], request["args"], MARK)
        kwargs = redact_kwargs(request["task"], request["kwargs"], MARK)
        return Context({**request, "args": args, "kwargs": kwargs})
    if isinstance(value, BaseException):
        return without_secrets(value, secrets)
    return scrub(value, secrets, MARK) if isinstance(value, str) else value


def _show_in_sentry(node: Node) -> None:
    """Add the node to Sentry's events of this call, if its Celery integration is active."""
    sentry: Any = sys.modules.get("sentry_sdk")
    client = sentry.get_client() if hasattr(sentry, "get_client") else None
    if client is None or client.get_integration("celery") is None:
        return  # without it they would stay set after the call
    sentry.set_tag("backbeat.node", str(node.pk))
    about = {"node": str(node.pk), "workflow": str(node.workflow_id), "attempt": node.attempt}
    sentry.set_context("backbeat", about)

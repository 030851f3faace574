"""Keep an exception with its attempt, and make it again for `get()` and error callbacks.

The row has the name of the class and the arguments. Only a class of exceptions is ever looked up
and called; for what cannot be imported or made, one of that name is made up, as Celery does.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from typing import Any

from backbeat_celery.exceptions import BackbeatError, BadPayload, NodeFailed
from backbeat_celery.inputs import payload
from backbeat_celery.models.history import Attempt
from backbeat_celery.models.node import Node
from backbeat_celery.states import AttemptOutcome

LONGEST_TYPE = 255
LARGEST_ARGS = 16 * 1024
"""Characters of the arguments as JSON that are kept."""

FAILURES = (AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT, AttemptOutcome.LOST)


def describe(exc: BaseException) -> tuple[str, list[Any] | None]:
    """Give the name of an exception's class, and its arguments if they can be stored."""
    kind = type(exc)
    name = f"{kind.__module__}:{kind.__qualname__}"
    args = list(exc.args)
    try:
        text = payload.encode(args, "arguments")
        kept = args if len(text) <= LARGEST_ARGS and payload.is_storable(text) else None
    except BadPayload:
        kept = None
    return name if len(name) <= LONGEST_TYPE and payload.is_storable(name) else "", kept


def exception_of(attempt: Attempt) -> BaseException:
    """Make the exception that ended an attempt, or one that says the same."""
    text = attempt.error or "no reason is known"
    if not attempt.error_type:
        return NodeFailed(text)
    kind = _class_named(attempt.error_type)
    args = attempt.error_args
    if args is None:
        args = [text]
    if issubclass(kind, BackbeatError):
        return _bare(kind, args)
    try:
        made = kind(*args)
    except Exception:  # a constructor that takes something else than `args`
        return _bare(kind, args)
    return made if isinstance(made, BaseException) else _bare(kind, args)


def failure_of(node: Node) -> tuple[BaseException, str]:
    """Give the exception of a failed node's last attempt, and its traceback as text."""
    rows = Attempt.objects.using(node.alias).filter(node_id=node.pk, outcome__in=FAILURES)
    attempt = rows.order_by("-number").first()
    if attempt is None:
        return NodeFailed(node.error or f"{node.name} has failed."), ""
    return exception_of(attempt), attempt.traceback or ""


def _bare(kind: type[BaseException], args: list[Any]) -> BaseException:
    made = kind.__new__(kind)
    made.args = tuple(args)
    return made


def _class_named(name: str) -> type[BaseException]:
    module, _, path = name.partition(":")
    try:
        found: Any = sys.modules.get(module) or import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception:  # whatever a module raises when it is imported
        return _made_up(module, path)
    is_one = isinstance(found, type) and issubclass(found, BaseException)
    return found if is_one else _made_up(module, path)


@cache
def _made_up(module: str, path: str) -> type[BaseException]:
    return type(path.rpartition(".")[2] or "Error", (Exception,), {"__module__": module})

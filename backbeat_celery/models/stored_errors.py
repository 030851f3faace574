"""Exceptions as rows keep them: taken apart by class and arguments, and made again.

A row names a class, and nothing else is ever looked up or called: what the name stands for is
used only if it is an exception class.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache, partial
from pkgutil import resolve_name
from typing import Any, TypedDict

from celery.exceptions import NotRegistered

from backbeat_celery.exceptions import NodeFailed
from backbeat_celery.inputs import payload
from backbeat_celery.models.history import Attempt
from backbeat_celery.models.node import Node
from backbeat_celery.runtime.text import shorten_start
from backbeat_celery.states import AttemptOutcome, Status

LONGEST_TYPE = 255
LARGEST_ARGS = 16 * 1024
"""Characters of the arguments as JSON that are kept, as of the error's text."""

NO_FAILURE = (AttemptOutcome.SUCCEEDED, AttemptOutcome.CANCELED)


class StoredError(TypedDict):
    """The class of an exception, with its module, and its arguments; None if they are not kept."""

    error_type: str
    error_args: list[Any] | None


def stored_error(exc: BaseException) -> StoredError:
    """Take an exception apart; an argument that JSON cannot carry loses all of them."""
    return StoredError(error_type=_name(type(exc)), error_args=_args(exc))


def _name(kind: type[BaseException]) -> str:
    name = f"{kind.__module__}.{kind.__qualname__}"
    # The end of a name that is too long has the class.
    return shorten_start(name, LONGEST_TYPE) if payload.is_storable(name) else ""


def _args(exc: BaseException) -> list[Any] | None:
    try:
        # One level deeper than they are: a report keeps them inside a dictionary.
        text = payload.encode([list(exc.args)])
    except Exception:  # also what a property of that name raises
        return None
    args: list[Any] = payload.decode(text)[0]
    return args if len(text) <= LARGEST_ARGS else None


def exception_of(attempt: Attempt) -> BaseException:
    """Make the exception again with which an attempt has ended.

    A class that cannot be imported, or not be made of the arguments, becomes another one of the
    same name; an attempt that was failed by a text alone has a NodeFailed.
    """
    text = attempt.error or ""
    if not attempt.error_type:
        return NodeFailed(text or None)
    args = tuple((text,) if attempt.error_args is None else attempt.error_args)
    kind = _known(attempt.error_type)
    made = _make(kind, args) if kind is not None else None
    return _made_up(attempt.error_type)(*args) if made is None else made


def failure_of(node: Node) -> tuple[BaseException, str]:
    """Give the exception of a failed node, and its traceback as text; one query.

    Of a node that has been retried since it is the newest failure that is known.
    """
    attempts = Attempt.objects.using(node.alias).filter(node_id=node.pk)
    last = attempts.exclude(outcome__in=NO_FAILURE).order_by("-number").first()
    if last is None or (node.status == Status.FAILED and last.error != node.error):
        # The one failure without an attempt of its own: no worker knew the task.
        return NotRegistered(node.task), ""
    return exception_of(last), last.traceback or ""


def _known(name: str) -> type[BaseException] | None:
    try:
        found = resolve_name(name)
    except Exception:  # whatever the import of a module raises
        return None
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _make(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException | None:
    """Make an exception with just these arguments; None if it cannot be made or shown."""
    for make in (kind, partial(kind.__new__, kind)):
        with suppress(Exception):
            made: Any = make(*args)
            # A class that makes its argument of what it is called with would do so twice.
            made.args = args
            repr(made)
            str(made)
            if isinstance(made, kind):
                return made
    return None


@lru_cache(maxsize=256)
def _made_up(name: str) -> type[Exception]:
    module, _, short = name.rpartition(".")
    return type(short, (Exception,), {"__module__": module.partition(".<locals>")[0]})

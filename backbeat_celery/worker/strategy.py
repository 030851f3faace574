"""How a worker takes a node's message: Celery's way, with two differences.

One that Celery cannot read is refused. Celery trusts the headers and bodies of its messages: one
of a wrong type ends the whole worker, and the message is then delivered to the next one.

A node's message is acknowledged when its child has been given the next one: see `acks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from celery.exceptions import InvalidTaskError

from backbeat_celery.runtime.compat.celery import HEADER_TYPES
from backbeat_celery.runtime.compat.worker import default_strategy
from backbeat_celery.runtime.content_type import CONTENT_TYPE
from backbeat_celery.worker import acks
from backbeat_celery.worker.message import has_header

UNREADABLE = (
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
)


def safe_strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Make the function that takes a task's messages, which Celery calls a strategy."""
    take = default_strategy(task, app, consumer, **options)
    can_wait = acks.can_wait(consumer)

    def take_if_readable(message: Any, body: Any, ack: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_about_a_node(message):
            return take(message, body, ack, *args, **kwargs)
        try:
            _check(message.headers)
            if can_wait:
                ack = partial(_later, consumer, ack)
            return take(message, body, ack, *args, **kwargs)
        except UNREADABLE as exc:
            # The consumer logs this and rejects the message.
            raise InvalidTaskError(f"Celery cannot read it: {exc!r}") from exc

    return take_if_readable


def _is_about_a_node(message: Any) -> bool:
    headers = message.headers
    return message.content_type == CONTENT_TYPE or (
        isinstance(headers, Mapping) and has_header(headers)
    )


def _check(headers: Mapping[str, Any]) -> None:
    """Celery uses these only when the pool has room, where nobody catches the error."""
    if not has_header(headers) or "task" not in headers:
        raise ValueError("it does not say which node it is about")
    for name, kind in HEADER_TYPES.items():
        value = headers.get(name)
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{name} of type {type(value).__name__}")
    hard, soft = headers.get("timelimit") or (None, None)
    for limit in (hard, soft):
        if limit is not None and not isinstance(limit, (int, float)):
            raise TypeError(f"a time limit of type {type(limit).__name__}")
    for stamp in headers.get("stamped_headers") or ():
        if not isinstance(stamp, str):
            raise TypeError(f"a stamp of type {type(stamp).__name__}")


def _later(consumer: Any, ack: Callable[..., Any], *args: Any) -> None:
    acks.after_the_next_messages(consumer, partial(ack, *args))

"""The strategy of node-capable tasks: Celery's own, with two additions for messages about nodes.

It is set on every registered task. Messages that are not about nodes go to Celery's strategy
unchanged. A message about a node with a header of a wrong type is rejected: Celery does not check
types, and such a message would crash this worker and, after redelivery, the next one. And a
node's message is acknowledged after the child has received its next one: see `acks.py`.
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
    """Make the function that handles a task's messages, which Celery calls a strategy."""
    handle = default_strategy(task, app, consumer, **options)
    can_defer = acks.can_defer(consumer)

    def handle_if_readable(message: Any, body: Any, ack: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_about_node(message):
            return handle(message, body, ack, *args, **kwargs)
        try:
            _check(message.headers)
            if can_defer:
                ack = partial(_ack_later, consumer, ack)
            return handle(message, body, ack, *args, **kwargs)
        except UNREADABLE as exc:
            # The consumer logs this and rejects the message.
            raise InvalidTaskError(f"Celery cannot read it: {exc!r}") from exc

    return handle_if_readable


def _is_about_node(message: Any) -> bool:
    headers = message.headers
    return message.content_type == CONTENT_TYPE or (
        isinstance(headers, Mapping) and has_header(headers)
    )


def _check(headers: Mapping[str, Any]) -> None:
    """Check the headers that Celery reads later, where an error would not be caught."""
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


def _ack_later(consumer: Any, ack: Callable[..., Any], *args: Any) -> None:
    acks.defer(consumer, partial(ack, *args))

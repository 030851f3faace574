"""Message headers that belong to a node: those that its caller and other packages set.

Tenants, traces, request and user ids travel in headers that other packages add to each message:
by a receiver of `before_task_publish`, by overriding `send_task` or `apply_async`, or by wrapping
them. A node's messages are sent later and by other processes, so these headers are captured
when the node is created: Celery makes the message, and it is not sent.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from celery import Celery, Task
from celery.exceptions import AlwaysEagerIgnored

from backbeat_celery.exceptions import BadPayload, UnsupportedOption
from backbeat_celery.inputs import payload
from backbeat_celery.inputs.redaction import given_arguments, redact_args, redact_kwargs
from backbeat_celery.inputs.task_registry import known_task
from backbeat_celery.runtime.compat.celery import (
    HEADERS,
    app_in_use,
    calls_plainly,
    sends_plainly,
)
from backbeat_celery.runtime.compat.kombu import HeaderRecorder
from backbeat_celery.states import Input

if TYPE_CHECKING:
    from backbeat_celery.inputs.node_spec import NodeSpec

OPTION = "headers"
"""The key of a node's options with its headers."""

IN_CANVAS = "canvas"
"""The key of a node's options that says that it is a step of a canvas."""

OF_NODES = frozenset({OPTION, "policy", "turn", "callbacks", "failure", "own", IN_CANVAS})
"""Keys of a node's options that are no options of its message."""

HEADER = "backbeat"
"""The message header that carries node, attempt and database."""

CLAIM_HEADER = "backbeat_claim"
"""Where the worker's main process notes the claim id of a delivery for its child."""

STAMPED, STAMPS = "stamped_headers", "stamps"
OURS = frozenset({HEADER, CLAIM_HEADER})
CELERYS = HEADERS - {
    OPTION  # where some packages repeat theirs, so that `request.headers` shows them
}
"""Headers that Celery writes itself: those that `request.headers` leaves out."""

_taking: ContextVar[str | None] = ContextVar("backbeat_taking_headers", default=None)


class TakenTwice(Exception):
    """A task whose `apply_async` makes a node of it."""


def given_headers(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Take `headers` and stamps out of a signature's options, as a message would show them."""
    if OPTION not in options and STAMPED not in options:
        return {}
    headers = options.pop(OPTION, None) or {}
    if not isinstance(headers, Mapping) or not all(isinstance(key, str) for key in headers):
        raise UnsupportedOption(
            f"{name}: headers is a dictionary with names as keys.", anchor="headers"
        )
    if clash := sorted(headers.keys() & CELERYS):
        raise UnsupportedOption(
            f"{name}: headers cannot be called {', '.join(clash)}, since Celery has its own.",
            anchor="headers",
        )
    stamped = list(options.pop(STAMPED, None) or ())
    stamps = {stamp: options.pop(stamp) for stamp in stamped if stamp in options}
    return _storable(name, _own({**headers, STAMPED: stamped, STAMPS: stamps}))


def take(spec: NodeSpec) -> NodeSpec:
    """Store with each new node the headers that a message sent by its caller would have."""
    for call in spec.calls():
        _take(call)
    return spec


def _take(spec: NodeSpec) -> None:
    app = app_in_use()
    task = known_task(spec.task)
    if not (sends_plainly(app) and calls_plainly(task)):
        if headers := _storable(spec.task, _taken(app, task, spec)):
            spec.options[OPTION] = headers
        else:
            spec.options.pop(OPTION, None)


def kept(options: Mapping[str, Any]) -> dict[str, Any]:
    """The headers that a node's options keep, as they go on a message."""
    headers: dict[str, Any] = options.get(OPTION) or {}
    return payload.decode(json.dumps(headers)) if headers else headers


def replace_added(headers: dict[str, Any], keep: Mapping[str, Any]) -> None:
    """Put the node's headers on a message in place of those that its publisher added."""
    for name in headers.keys() - CELERYS - keep.keys():
        del headers[name]
    headers.update(keep)


class Keeping:
    """A producer that gives each message the headers of its node, in any process."""

    def __init__(self, producer: Any, keep: Mapping[str, Any]) -> None:
        self._producer = producer
        self._keep = keep

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def publish(self, body: Any, *, headers: dict[str, Any], **options: Any) -> Any:
        """Publish a message that Celery has made."""
        replace_added(headers, self._keep)
        return self._producer.publish(body, headers=headers, **options)


def _taken(app: Celery, task: Task[Any, Any] | None, spec: NodeSpec) -> dict[str, Any]:
    """The headers of the message that Celery would send for a new node."""
    if _taking.get() == spec.task:
        raise TakenTwice
    if _taking.get() is not None:
        return dict(spec.options.get(OPTION) or {})
    taker = HeaderRecorder()
    with _noted(spec.task):
        _make_message(app, task, spec, taker)
    return _own(taker.taken or {})


def _make_message(
    app: Celery, task: Task[Any, Any] | None, spec: NodeSpec, taker: HeaderRecorder
) -> None:
    is_eager = app.conf.task_always_eager  # `apply_async` would run the task in place
    args = (*[None] * Input(spec.input).arguments, *spec.args)
    if task is not None and not is_eager:
        with suppress(TakenTwice):
            task.apply_async(args, spec.kwargs, **_call_options(spec, taker))
    if taker.taken is None:  # it was postponed, or passed to another producer
        with _quiet() if is_eager else nullcontext():
            app.send_task(spec.task, args, spec.kwargs, **_call_options(spec, taker))


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AlwaysEagerIgnored)
        yield


@contextmanager
def _noted(task: str) -> Iterator[None]:
    token = _taking.set(task)
    try:
        yield
    finally:
        _taking.reset(token)


def _call_options(spec: NodeSpec, taker: HeaderRecorder) -> dict[str, Any]:
    options = {name: value for name, value in spec.options.items() if name not in OF_NODES}
    headers = kept(spec.options)
    stamped, stamps = headers.pop(STAMPED, None), headers.pop(STAMPS, {})
    args = redact_args(spec.task, spec.args, "***", given=given_arguments(spec))
    return {
        **options,
        **(stamps | {STAMPED: stamped} if stamped else {}),
        "headers": headers,
        "producer": taker,
        "task_id": str(spec.id),
        "argsrepr": repr(tuple(args)),
        "kwargsrepr": repr(redact_kwargs(spec.task, spec.kwargs, "***")),
        "ignore_result": True,
        "add_to_parent": False,
        "retry": False,
    }


def _own(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The headers that are neither Celery's nor ours, and the stamps."""
    own = {name: value for name, value in headers.items() if name not in CELERYS | OURS}
    if isinstance(again := own.get(OPTION), Mapping):
        own[OPTION] = {name: value for name, value in again.items() if name not in OURS}
    if headers.get(STAMPED):
        own |= {STAMPED: list(headers[STAMPED]), STAMPS: dict(headers[STAMPS])}
    return own


def _storable(name: str, headers: dict[str, Any]) -> dict[str, Any]:
    """The same as plain JSON that a row can keep; dates and the like as kombu marks them."""
    if not headers:
        return headers
    try:
        plain: dict[str, Any] = json.loads(payload.encode(headers, "It"))
        return payload.check_metadata(plain)
    except BadPayload as exc:
        raise UnsupportedOption(
            f"{name}: the headers that would go on its message cannot be kept. {exc}",
            anchor="headers",
        ) from exc

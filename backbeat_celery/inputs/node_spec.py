"""Checked descriptions of nodes that are about to be created.

All input to `signal`, `spawn` and `add_child` passes here, before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from celery import Task
from celery.utils.time import maybe_iso8601

from backbeat_celery.conf import seconds
from backbeat_celery.exceptions import (
    BadInput,
    BadMode,
    BadPayload,
    BadTime,
    UnknownTask,
    UnsupportedOption,
)
from backbeat_celery.inputs import payload
from backbeat_celery.inputs.foreign_tasks import refuse_foreign
from backbeat_celery.inputs.message_headers import OPTION, given_headers
from backbeat_celery.inputs.policy import kept_options, rescue_name
from backbeat_celery.inputs.task_options import LONGEST_DELAY, check_task, problems_of
from backbeat_celery.inputs.task_registry import known_task, unknown_task
from backbeat_celery.inputs.unsupported_options import message_problems, refusals
from backbeat_celery.runtime.compat.celery import argument_check
from backbeat_celery.runtime.ids import uuid7
from backbeat_celery.runtime.text import quote
from backbeat_celery.states import COUNTING, Input, Mode, Yields

ROUTE_OPTIONS = ("queue", "exchange", "routing_key")
"""Options of a signature that say where the message of each attempt goes."""

MESSAGE_OPTIONS = frozenset(
    {
        *ROUTE_OPTIONS,
        *("priority", "time_limit", "soft_time_limit"),
        *("serializer", "compression", "shadow", "retry", "retry_policy", "delivery_mode"),
        *("MessageGroupId", "MessageDeduplicationId", "app_id", "message_id", "type", "user_id"),
    }
)
"""Options of a signature that shape the message of each attempt."""

IGNORED_OPTIONS = frozenset(
    {
        *("ignore_result", "add_to_parent", "route_name", "immutable"),
        # What `freeze()` writes; the place in the tree says the same.
        *("root_id", "parent_id", "reply_to", "group_id", "group_index"),
    }
)
TIME_OPTIONS = frozenset({"countdown", "eta"})
CANVAS_OPTIONS = frozenset({"link", "link_error", "task_id", "expires"})
"""Options of a signature that are no part of its message."""

TURN = "turn"
"""The key of a node's options with seconds that count from its turn, in a canvas."""

CALLBACKS = "callbacks"
"""The key of a node's options with what is called when it succeeds or fails, as JSON text."""
MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What a new node will be. `task` is empty for a flag."""

    task: str
    name: str
    mode: Mode
    barrier: bool = False
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    key: str | None = None
    fires_at: datetime | None = None
    delay: float | None = None
    remote: bool = False
    rescue: bool = False
    awaits_completion: bool = False
    container: str = ""
    input: int = Input.NONE
    yields: int = Yields.OWN
    celery_id: str | None = None
    expires_at: datetime | None = None
    expires_in: float | None = None
    """Seconds from its creation."""
    children: list[NodeSpec] = field(default_factory=list)
    """Of a container; in order."""
    id: UUID = field(default_factory=uuid7)

    @property
    def is_flag(self) -> bool:
        return not self.task and not self.container

    @property
    def is_blocking(self) -> bool:
        return self.mode == Mode.BLOCKING

    @property
    def counts(self) -> bool:
        """Whether its parent waits for it."""
        return self.mode in COUNTING

    def due_at(self, now: datetime) -> datetime | None:
        """When the node may run, given the database's time; None: at once."""
        return now + timedelta(seconds=self.delay) if self.delay is not None else self.fires_at

    def expires(self, now: datetime) -> datetime | None:
        """When the node is canceled if no attempt has begun, given the database's time."""
        if self.expires_in is not None:
            return now + timedelta(seconds=self.expires_in)
        return self.expires_at

    def calls(self) -> Iterator[NodeSpec]:
        """Give all nodes of this subtree that call a task."""
        waiting = [self]
        while waiting:
            spec = waiting.pop()
            if spec.task:
                yield spec
            waiting += reversed(spec.children)


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a task, taken from a signature and from what a canvas adds to it."""

    name: str
    task: Task[Any, Any] | None
    args: list[Any]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    """The signature's options, without its callbacks."""
    given: int = 0
    """Arguments that other nodes give before its own."""
    is_checked: bool = True
    """Whether wrong arguments are refused, and do not only fail when it runs."""


def call_spec(
    call: Call,
    *,
    mode: Mode | str | None = None,
    barrier: bool = False,
    fires_at: datetime | None = None,
    delay: float | timedelta | None = None,
    key: str | None = None,
    metadata: dict[str, Any] | None = None,
    from_turn: bool = False,
) -> NodeSpec:
    """Describe a node that calls a task.

    With `from_turn` the seconds of `countdown` and `expires` count from its turn, as Celery
    counts them from the time at which the step before sends it.

    Raises BadInput for anything that cannot be used.
    """
    name, task = call.name, call.task
    if task is not None:
        _check_task(task)
    options = dict(call.options)
    headers = given_headers(name, options)
    times = {name: options.pop(name) for name in TIME_OPTIONS & options.keys()}
    fires_at, delay = check_times(name, fires_at, delay, times)
    expires_at, expires_in = _check_expires(name, options.pop("expires", None))
    celery_id = _check_task_id(name, options.pop("task_id", None))
    _check_call(name, task if call.is_checked else None, call.args, call.kwargs, call.given)
    if mode is None:
        mode = getattr(task, "mode", None) or Mode.BLOCKING
    mode = check_mode(mode, barrier)
    turn: dict[str, float] = {}
    if from_turn:
        turn = {k: v for k, v in (("countdown", delay), ("expires", expires_in)) if v is not None}
        delay = expires_in = None
    return NodeSpec(
        task=name,
        name=name,
        mode=mode,
        barrier=barrier,
        args=call.args,
        kwargs=call.kwargs,
        options={
            **_check_options(name, options),
            **kept_options(name),
            **({OPTION: headers} if headers else {}),
            **({TURN: turn} if turn else {}),
        },
        metadata=payload.check_metadata(metadata),
        key=check_key(key),
        fires_at=fires_at,
        delay=delay,
        expires_at=expires_at,
        expires_in=expires_in,
        celery_id=celery_id,
        remote=task is None,
        awaits_completion=bool(getattr(task, "awaits_completion", False)),
    )


def flag_spec(
    name: str,
    *,
    mode: Mode | str | None = None,
    barrier: bool = False,
    fires_at: datetime | None = None,
    delay: float | timedelta | None = None,
    key: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> NodeSpec:
    """Describe a node that calls no handler."""
    check_name(name, "flag")
    fires_at, delay = check_times(name, fires_at, delay, {})
    return NodeSpec(
        task="",
        name=name,
        mode=check_mode(Mode.BLOCKING if mode is None else mode, barrier),
        barrier=barrier,
        metadata=payload.check_metadata(metadata),
        key=check_key(key),
        fires_at=fires_at,
        delay=delay,
    )


def check_name(name: str, what: str) -> str:
    """Give the name of a workflow or a flag, or raise BadInput."""
    is_usable = isinstance(name, str) and 1 <= len(name) <= MAX_NAME and payload.is_storable(name)
    if not is_usable:
        raise BadInput(f"A {what}'s name has 1 to {MAX_NAME} characters and no NUL.")
    return name


def check_mode(mode: Mode | str, barrier: bool) -> Mode:
    """Give the mode, or raise BadMode."""
    try:
        mode = Mode(mode)
    except (ValueError, RecursionError):  # the latter from quoting it
        choices = ", ".join(Mode.values)
        raise BadMode(f"There is no mode {quote(mode)}; choose one of {choices}.") from None
    if barrier and mode != Mode.BLOCKING:
        raise BadMode(f"A barrier is blocking by nature; {mode.value!r} does not fit.")
    return mode


def check_key(key: str | None) -> str | None:
    """Give the idempotency key, or raise BadInput."""
    if key is None:
        return None
    if not isinstance(key, str) or not 1 <= len(key) <= 255 or not payload.is_storable(key):
        raise BadInput("A key is a string of 1 to 255 characters without NUL.")
    return key


def task_called(name: str, options: Mapping[str, Any]) -> Task[Any, Any] | None:
    """Find the task of a call; None if only another code base, named by its queue, has it."""
    task = find_task(name)
    if task is None and not options.get("queue"):
        raise unknown_task(name)
    return task


def registered_task(name: str) -> Task[Any, Any]:
    """Find a task by name, or raise UnknownTask."""
    if (task := find_task(name)) is None:
        raise unknown_task(name)
    return task


def find_task(name: str) -> Task[Any, Any] | None:
    """Find a registered task by name, importing the project's task modules if need be."""
    if (
        not isinstance(name, str)
        or not 1 <= len(name) <= MAX_NAME
        or not payload.is_storable(name)
    ):
        raise UnknownTask(f"A task's name has 1 to {MAX_NAME} characters and no NUL.")
    if name.startswith("celery."):
        raise UnsupportedOption(
            f"{name} is a part of Celery's canvas and cannot be a node.", anchor="canvas"
        )
    return known_task(name)


def _check_task(task: Task[Any, Any]) -> None:
    """Refuse options that no node supports, rather than ignore them."""
    refuse_foreign(task)
    check_task(task)
    if rescue := rescue_name(task):
        refuse_foreign(registered_task(rescue))  # raised now, not when the node has failed


def _check_call(
    name: str, task: Task[Any, Any] | None, args: list[Any], kwargs: dict[str, Any], given: int
) -> None:
    payload.encode([args, kwargs], f"The arguments of {name}")
    check_arguments = argument_check(task)
    if task is not None and task.typing and check_arguments is not None:
        try:
            check_arguments(*[None] * given, *args, **kwargs)
        except TypeError as exc:
            raise BadInput(f"{name} cannot be called like this: {exc}.") from exc


def check_times(
    name: str, fires_at: datetime | None, delay: Any, times: Mapping[str, Any]
) -> tuple[datetime | None, float | None]:
    """Give the time of a start, absolute or in seconds; `times` are Celery's options for it."""
    if len([1 for value in (fires_at, delay, *times.values()) if value is not None]) > 1:
        raise BadTime(f"{name}: give one of fires_at (eta) and delay (countdown), not both.")
    fires_at = times.get("eta") if fires_at is None else fires_at
    delay = seconds(times.get("countdown") if delay is None else delay)
    if fires_at is not None and (not isinstance(fires_at, datetime) or fires_at.tzinfo is None):
        raise BadTime(f"{name}: fires_at is a datetime with time zone, not {quote(fires_at)}.")
    if delay is not None:
        if isinstance(delay, bool) or not isinstance(delay, (int, float)):
            raise BadTime(
                f"{name}: delay is a number of seconds or a timedelta, not {quote(delay)}."
            )
        if not 0 <= delay <= LONGEST_DELAY:
            raise BadTime(f"{name}: delay is between 0 seconds and 100 years, not {quote(delay)}.")
    return fires_at, delay


def _check_expires(name: str, value: Any) -> tuple[datetime | None, float | None]:
    if isinstance(value, str):  # of a signature that was JSON
        with suppress(ValueError):
            value = maybe_iso8601(value)
    value = seconds(value)
    if value is None:
        return None, None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise BadTime(f"{name}: expires is a datetime with time zone, not {quote(value)}.")
        return value, None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadTime(
            f"{name}: expires is a number of seconds, a timedelta or a datetime with time zone, "
            f"not {quote(value)}."
        )
    if not value <= LONGEST_DELAY:
        raise BadTime(f"{name}: expires is at most 100 years away, not {quote(value)}.")
    return None, max(0.0, float(value))


def _check_task_id(name: str, value: Any) -> str | None:
    if value is None:
        return None
    text = str(value)
    if not 1 <= len(text) <= MAX_NAME or not payload.is_storable(text):
        raise BadInput(f"{name}: a task_id has 1 to {MAX_NAME} characters and no NUL.")
    return text


def _check_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    if not options:
        return {}
    unsupported = options.keys() - MESSAGE_OPTIONS - IGNORED_OPTIONS
    if unsupported := {key for key in unsupported if options[key] is not None}:
        allowed = MESSAGE_OPTIONS | TIME_OPTIONS | CANVAS_OPTIONS | {"headers"}
        raise UnsupportedOption(" ".join(refusals(name, unsupported, allowed)))
    kept = {k: seconds(v) for k, v in options.items() if k in MESSAGE_OPTIONS and v is not None}
    if wrong := [*problems_of(name, kept), *message_problems(name, kept)]:
        raise UnsupportedOption(" ".join(wrong), anchor="message-options")
    try:
        text = payload.encode(kept, f"The options of {name}")
        is_plain = '"__type__"' not in text and ("\\u" not in text or payload.are_storable(kept))
    except BadPayload as exc:
        raise UnsupportedOption(
            f"{exc} Name the queue by a string.", anchor="message-options"
        ) from exc
    if not is_plain:
        raise UnsupportedOption(
            f"The options of {name} go on a message as they are: give text without NUL or lone "
            f"surrogates, such as str(uuid), and numbers, not {quote(kept)}.",
            anchor="message-options",
        )
    return kept

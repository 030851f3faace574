"""Decide from the result of an attempt what becomes of its node. Nothing is written here."""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from backbeat_celery.conf import settings
from backbeat_celery.exceptions import BadPayload
from backbeat_celery.inputs import payload
from backbeat_celery.inputs.policy import Policy
from backbeat_celery.models import Node
from backbeat_celery.models.stored_errors import stored_error
from backbeat_celery.runtime.text import shorten, shorten_start
from backbeat_celery.states import AttemptOutcome, Status

logger = logging.getLogger(__name__)

LONGEST_ERROR = 16 * 1024
"""Characters of an error or a traceback that are stored."""

RESULT_HINT = (
    "The node is complete, but with the result None. Return plain data, such as a primary key."
)

_warned: set[str] = set()
"""Tasks about whose results this process has warned."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The attempt succeeded. With `at_once`, no report is awaited after it.

    `note` says what could not be stored; it is kept with the attempt.
    """

    result: Any = None
    at_once: bool = False
    actor: str = ""
    reason: str = ""
    note: str = ""
    ignored: bool = False
    """Whether the handler has ended a canvas here: nothing that follows runs."""

    @classmethod
    def of(cls, result: Any, task: str) -> Succeeded:
        """Take a handler's return value, or None and a note if that cannot be stored.

        The handler has done its work, so a wrong return value does not fail the attempt.
        """
        try:
            payload.encode(result, f"The result of {task}", hint=RESULT_HINT)
        except BadPayload as exc:
            _warn_once(task, exc)
            return cls(note=clean(str(exc)))
        return cls(result)


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed. A `final` failure is not retried; `wait` overrides the backoff."""

    error: str
    traceback: str = ""
    final: bool = False
    wait: float | None = None
    fires_at: datetime | None = None
    max_retries: int | None = None
    kind: AttemptOutcome = AttemptOutcome.FAILED
    actor: str = ""
    reason: str = ""
    error_type: str = ""
    error_args: list[Any] | None = None

    @property
    def is_inferred(self) -> bool:
        """Whether this was inferred from a timeout and not reported."""
        return self.kind == AttemptOutcome.TIMED_OUT

    @classmethod
    def from_exception(cls, exc: BaseException, **fields: Any) -> Failed:
        """Describe an exception as text, and take it apart so that it can be made again."""
        text = "".join(traceback.format_exception(exc))
        try:
            shown = repr(exc)
        except Exception:
            shown = f"<{type(exc).__name__} without a repr>"
        return cls(
            error=clean(shown),
            traceback=clean(text, tail=True),
            **stored_error(exc),
            **fields,
        )

    @classmethod
    def unraised(cls, exc: BaseException, error: str, **fields: Any) -> Failed:
        """Describe a failure that no handler raised by the exception that stands for it."""
        return cls(error=error, **stored_error(exc), **fields)


@dataclass(frozen=True, slots=True)
class Lost:
    """The attempt ended without a result, or was given back."""

    error: str
    kind: AttemptOutcome = AttemptOutcome.LOST
    counted: bool = True
    error_type: str = ""
    error_args: list[Any] | None = None
    actor: str = ""
    reason: str = ""
    traceback: ClassVar[str] = ""
    is_inferred: ClassVar[bool] = True

    @classmethod
    def by(cls, exc: BaseException, error: str, **fields: Any) -> Lost:
        """Describe a loss by the exception that stands for it, should it be the last one."""
        return cls(error, **stored_error(exc), **fields)


AttemptResult = Succeeded | Failed | Lost


class GivenBack(Exception):
    """Raised by one of our handlers to give the attempt back; it does not count."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a node after an attempt that did not succeed."""

    status: Status
    retries: int
    lost_attempts: int
    reason: str
    wait: float | None = None
    fires_at: datetime | None = None


def decide(node: Node, ending: Failed | Lost, policy: Policy) -> Decision:
    """Decide whether a node is retried, queued again or failed."""
    if isinstance(ending, Lost):
        return _decide_lost(node, ending)
    failures = node.retries + 1
    if ending.final:
        return Decision(Status.FAILED, failures, 0, "failed for good")
    if ending.kind == AttemptOutcome.TIMED_OUT and policy.gives_up_on(None):
        return Decision(Status.FAILED, failures, 0, "timed out; its task asks for no retry")
    if policy.is_exhausted(failures, ending.max_retries):
        return Decision(Status.FAILED, failures, 0, f"retries exhausted after {failures} failures")
    reason = f"{ending.kind.label}; retry {failures}"
    if ending.fires_at is not None:
        return Decision(Status.RETRYING, failures, 0, reason, fires_at=ending.fires_at)
    wait = policy.delay(failures) if ending.wait is None else ending.wait
    return Decision(Status.RETRYING, failures, 0, reason, wait=wait)


def _decide_lost(node: Node, ending: Lost) -> Decision:
    lost = node.lost_attempts + ending.counted
    if lost >= settings.max_lost_attempts:
        reason = f"lost {lost} attempts in a row"
        return Decision(Status.FAILED, node.retries, lost, reason)
    return Decision(Status.QUEUED, node.retries, lost, f"attempt {ending.kind.label}")


def clean(text: str, tail: bool = False) -> str:
    """Shorten a text to the stored length, and escape characters that a database refuses."""
    text = text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
    return shorten_start(text, LONGEST_ERROR) if tail else shorten(text, LONGEST_ERROR)


def _warn_once(task: str, exc: BadPayload) -> None:
    if task not in _warned:
        _warned.add(task)
        logger.warning(
            "%s Logged once for each task and process; each attempt has a note of its own.",
            exc,
        )


def as_utc(moment: datetime) -> datetime:
    """Read a naive time, which Celery may pass, as UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

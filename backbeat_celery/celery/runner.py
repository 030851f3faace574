"""Run one attempt of a node inside a Celery task call: claim, handler, record.

The outcome is recorded here, before Celery stores a result or fires a signal, because
Celery swallows the exceptions of signal receivers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from celery import Task
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject, Retry
from django.db import Error as DatabaseTrouble
from django.db import transaction

from backbeat_celery import payload, points
from backbeat_celery.celery.current import keep_run, run_of
from backbeat_celery.celery.message import has_header, parse
from backbeat_celery.celery.shutdown import is_kill, is_shutdown
from backbeat_celery.database import is_conflict
from backbeat_celery.engine.claim import Claim, claim
from backbeat_celery.engine.outcomes import Ending, Failed, Lost, Succeeded, as_utc
from backbeat_celery.engine.record import record
from backbeat_celery.engine.running import RunningNode, entered
from backbeat_celery.engine.wake import Wake
from backbeat_celery.exceptions import BackbeatError, BadTime, StaleAttempt
from backbeat_celery.points import WorkerDied
from backbeat_celery.policy import policy_of
from backbeat_celery.specs import LONGEST_DELAY
from backbeat_celery.states import AttemptOutcome, Status

logger = logging.getLogger(__name__)


class HandlerCrashed(BackbeatError):
    """A handler raised something that is not an Exception; it is reported as this instead."""


def begin(task: Task[Any, Any]) -> None:
    """Claim the node that the current message names, if it names one.

    Raises Ignore, so that Celery drops the message, when the node is not to be had.
    """
    request = task.request
    if request.called_directly or not has_header(vars(request)) or run_of(request) is not None:
        return
    message = parse(vars(request), task.name)
    if message is None:
        logger.warning("Dropping a message for %s with a header that is not ours.", task.name)
        raise Ignore("malformed header")
    points.reached("before_claim")
    try:
        taken = claim(message, worker=request.hostname or "", policy=policy_of(task))
    except DatabaseTrouble as exc:
        logger.warning("Cannot claim node %s: %r. It is sent again.", message.node_id, exc)
        raise Ignore("the database cannot be reached") from exc
    if taken is None:
        raise Ignore("not to be claimed")
    request.update(args=taken.node.args, kwargs=taken.node.kwargs, retries=taken.node.retries)
    keep_run(request, Run(task, taken))
    points.reached("before_handler")


class Run:
    """One attempt while its handler is called and its outcome recorded."""

    def __init__(self, task: Task[Any, Any], taken: Claim) -> None:
        self.task = task
        self.claim = taken
        self.is_started = False
        self.before_handler: Callable[..., Any] | None = None
        # `run` of a task with autoretry_for is a wrapper that retries through the broker;
        # every failure of a node is retried through its row instead.
        self._handler: Callable[..., Any] = getattr(task, "_orig_run", task.run)
        self._asked: Retry | None = None
        self._wake: Wake | None = None

    def take_wake(self) -> Wake | None:
        """What the record left to do; handed out once."""
        wake, self._wake = self._wake, None
        return wake

    def execute(self, own_call: Callable[..., Any] | None = None) -> Any:
        """Call the handler, record the outcome, and end the way Celery should see it.

        `own_call` is the `__call__` that the task's author wrote around the handler.
        """
        self.is_started = True
        self._handler = own_call or self._handler
        try:
            with entered(RunningNode(self.claim)):
                call = self._call_atomic if self.claim.policy.atomic else self._call
                ending, cause = call()
        except StaleAttempt as exc:
            logger.warning("Discarding the outcome of an attempt that was fenced off: %s", exc)
            raise Ignore("stale attempt") from exc
        except DatabaseTrouble as exc:
            logger.exception("Cannot record node %s; its lease runs out.", self.claim.node.pk)
            raise Ignore("the outcome could not be recorded") from exc
        points.reached("after_record")
        return self._conclude(ending, cause)

    def _call(self) -> tuple[Ending, BaseException | None]:
        try:
            ending, cause = self._run_handler()
        except BaseException as exc:
            if isinstance(exc, WorkerDied) or is_kill(exc):
                raise
            ending, cause = self._ending_of(exc), exc
        self._wake = record(self.claim, ending)
        return ending, cause

    def _call_atomic(self) -> tuple[Ending, BaseException | None]:
        """Let handler and outcome share a transaction: both are committed, or neither is."""
        as_claimed = dict(vars(self.claim.node))
        try:
            with transaction.atomic(using=self.claim.using):
                ending, cause = self._run_handler()
                wake = record(self.claim, ending)
        except BaseException as exc:
            if isinstance(exc, (WorkerDied, StaleAttempt)) or is_kill(exc):
                raise
            vars(self.claim.node).update(as_claimed)
            ending, cause = self._ending_of(exc), exc
            if isinstance(exc, DatabaseTrouble) and is_conflict(exc):
                ending = Lost(f"The transaction was rolled back: {exc!r}")
            wake = record(self.claim, ending)
        self._wake = wake
        return ending, cause

    def _run_handler(self) -> tuple[Ending, BaseException | None]:
        node = self.claim.node
        try:
            if self.before_handler is not None:
                self.before_handler(node.args, node.kwargs)
            result = self._handler(*node.args, **node.kwargs)
        except Ignore as exc:
            return Succeeded(None), exc
        points.reached("after_handler")
        asked = result if isinstance(result, Retry) else self._asked
        if asked is not None:
            raise asked
        payload.encode(result, f"The result of {self.task.name}")
        return Succeeded(result), None

    def _ending_of(self, exc: BaseException) -> Ending:
        policy = self.claim.policy
        if isinstance(exc, Reject):
            if exc.requeue:  # type: ignore[attr-defined]
                return Lost("The handler gave the attempt back.", kind=AttemptOutcome.GIVEN_BACK)
            return Failed.from_exception(exc, final=True)
        if isinstance(exc, Retry):
            return _asked_for(exc, self.claim.max_retries)
        if is_shutdown(exc):
            return Lost("The worker was shut down.", AttemptOutcome.GIVEN_BACK, counted=False)
        final = isinstance(exc, policy.fatal) if policy.fatal else False
        return Failed.from_exception(exc, final=final, max_retries=self.claim.max_retries)

    def _conclude(self, ending: Ending, cause: BaseException | None) -> Any:
        """End the task call so that Celery's own signals, logs and monitors are right."""
        if cause is None:
            return ending.result if isinstance(ending, Succeeded) else None
        if isinstance(ending, Lost):
            if not ending.counted:
                raise cause
            raise Ignore(ending.error) from cause
        if isinstance(ending, Succeeded) or isinstance(cause, Reject):
            raise cause
        if self.claim.node.status == Status.RETRYING:
            self._log_retry(cause)
            raise Retry(exc=_as_exception(cause), when=self.claim.node.fires_at) from cause
        error = _as_exception(cause)
        raise error from (cause if error is not cause else cause.__cause__)

    def _log_retry(self, cause: BaseException) -> None:
        node = self.claim.node
        quiet = isinstance(cause, (Retry, *self.claim.policy.quiet))
        logger.warning(
            "Attempt %d of %s %s failed: %r; next try at %s.",
            node.attempt,
            node.name,
            node.pk,
            cause,
            node.fires_at,
            exc_info=None if quiet else cause,
            extra={"node_id": node.pk, "attempt": node.attempt},
        )

    def ask_for_retry(
        self,
        exc: Exception | None,
        eta: datetime | None,
        countdown: float | None,
        max_retries: int | None,
    ) -> Retry:
        """Make what `self.retry` raises; raise the error itself when retries are exhausted."""
        self.claim.max_retries = max_retries
        if self.claim.policy.is_exhausted(self.claim.node.retries + 1, max_retries):
            raise exc or MaxRetriesExceededError(f"Can't retry {self.task.name} any more.")
        if countdown is not None and not 0 <= countdown <= LONGEST_DELAY:
            raise BadTime(f"countdown is between 0 seconds and 100 years, not {countdown!r}.")
        when: Any = eta if eta is not None else countdown
        self._asked = Retry(exc=exc, when=when)
        return self._asked


def _asked_for(retry: Retry, max_retries: int | None) -> Failed:
    when = retry.when
    return Failed.from_exception(
        retry.exc or retry,
        wait=float(when) if isinstance(when, (int, float)) else None,
        fires_at=as_utc(when) if isinstance(when, datetime) else None,
        max_retries=max_retries,
    )


def _as_exception(exc: BaseException) -> Exception:
    # Celery lets a MemoryError end the whole worker, as it does what is not an Exception.
    if isinstance(exc, Exception) and not isinstance(exc, MemoryError):
        return exc
    return HandlerCrashed(repr(exc))

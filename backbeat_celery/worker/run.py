"""Run one attempt of a node inside a Celery task call: handler, record, and what Celery is told.

The outcome is recorded here, before Celery stores a result or fires a signal, because
Celery swallows the exceptions of signal receivers.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from datetime import datetime
from typing import Any

from celery import Task
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject, Retry
from celery.utils.saferepr import saferepr
from django.db import Error as DatabaseTrouble
from django.db import connections, transaction

from backbeat_celery.conf import seconds, settings
from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.engine.claim import Claim
from backbeat_celery.engine.outcomes import (
    AttemptResult,
    Failed,
    GivenBack,
    Lost,
    Succeeded,
    as_utc,
)
from backbeat_celery.engine.record import record
from backbeat_celery.engine.running_node import RunningNode, entered
from backbeat_celery.exceptions import BackbeatError, BadTime, StaleAttempt
from backbeat_celery.inputs.policy import is_node_task
from backbeat_celery.inputs.redaction import node_secrets, scrub, secrets_in
from backbeat_celery.inputs.task_options import LONGEST_DELAY, refuse_unrun
from backbeat_celery.runtime import failpoints
from backbeat_celery.runtime.compat.celery import handler_of
from backbeat_celery.runtime.failpoints import WorkerDied
from backbeat_celery.runtime.text import quote
from backbeat_celery.runtime.transactions import is_broken, is_conflict
from backbeat_celery.states import AttemptOutcome, Status
from backbeat_celery.worker.exposed_arguments import Told
from backbeat_celery.worker.recording import record_or_fail
from backbeat_celery.worker.shutdown import is_kill, is_shutdown

logger = logging.getLogger(__name__)


class HandlerCrashed(BackbeatError):
    """Told to Celery in place of what is not an Exception, or quotes what is to be hidden."""


class Run:
    """One attempt while its handler is called and its outcome recorded."""

    def __init__(
        self, task: Task[Any, Any], taken: Claim, refused: Exception | None = None
    ) -> None:
        self.task = task
        self._refused = refused
        self.claim = taken
        self.is_started = False
        self.before_handler: Callable[..., Any] | None = None
        self.told: Told | None = None
        # `run` of a task with autoretry_for is a wrapper that retries through the broker;
        # every failure of a node is retried through its row instead.
        self._handler = handler_of(task)
        self._asked: Retry | None = None
        self._after_commit: AfterCommit | None = None
        self._ended: tuple[AttemptResult, BaseException | None]
        self.result: Any = None
        """What the handler has returned; Celery may be told another thing."""
        self.is_failed = False
        """Whether the node has failed for good, which the log is told of by us."""

    def pop_after_commit(self) -> AfterCommit | None:
        """What the record left to do; handed out once."""
        after_commit, self._after_commit = self._after_commit, None
        return after_commit

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
            logger.warning("Discarding the result of a stale attempt: %s", exc)
            raise Ignore("stale attempt") from exc
        except DatabaseTrouble as exc:
            logger.exception("Cannot record node %s; its lease runs out.", self.claim.node.pk)
            raise Ignore("the outcome could not be recorded") from exc
        failpoints.hit("after_record")
        self._ended = ending, cause
        del ending, cause  # error reporters show the variables of a frame
        return self._conclude()

    def attempt(
        self, own_call: Callable[..., Any] | None = None
    ) -> tuple[AttemptResult, BaseException | None]:
        """Call the handler; tell how it ended, and leave it to the caller to record that."""
        self.is_started = True
        self._handler = own_call or self._handler
        with entered(RunningNode(self.claim)):
            return self._outcome()

    def _outcome(self) -> tuple[AttemptResult, BaseException | None]:
        try:
            return self._run_handler()
        except BaseException as exc:
            if isinstance(exc, WorkerDied) or is_kill(exc):
                raise
            return self._ending_of(exc), exc

    def _call(self) -> tuple[AttemptResult, BaseException | None]:
        return self.settle(*self._outcome())

    def settle(
        self, ending: AttemptResult, cause: BaseException | None
    ) -> tuple[AttemptResult, BaseException | None]:
        """Record an ending, or, should that be impossible, the error which says why."""
        self._after_commit, ending, cause = record_or_fail(self.claim, ending, cause)
        return ending, cause

    def _call_atomic(self) -> tuple[AttemptResult, BaseException | None]:
        """Let handler and outcome share a transaction: both are committed, or neither is."""
        as_claimed = dict(vars(self.claim.node))
        raw: object = None
        try:
            with transaction.atomic(using=self.claim.using):
                raw = connections[self.claim.using].connection
                ending, cause = self._run_handler()
                after_commit = record(self.claim, ending)
        except BaseException as exc:
            if isinstance(exc, (WorkerDied, StaleAttempt)) or is_kill(exc):
                raise
            vars(self.claim.node).update(as_claimed)
            ending, cause = self._ending_of(exc), exc
            if isinstance(exc, DatabaseTrouble) and (
                is_conflict(exc) or is_broken(raw, self.claim.using)
            ):
                ending = Lost(f"The transaction was rolled back: {exc!r}")
            return self.settle(ending, cause)
        self._after_commit = after_commit
        return ending, cause

    def _run_handler(self) -> tuple[AttemptResult, BaseException | None]:
        node = self.claim.node
        if self._refused is not None:
            raise self._refused
        try:
            if self.before_handler is not None:
                self.before_handler(node.args, node.kwargs)
            result = self._handler(*node.args, **node.kwargs)
        except Ignore as exc:
            return Succeeded(None, at_once=True), exc
        failpoints.hit("after_handler")
        refuse_unrun(result, self.task.name)
        asked = result if isinstance(result, Retry) else self._asked
        if asked is not None:
            raise asked
        if node.awaits_report:
            return Succeeded(None), None  # the result is what `complete()` will say
        return Succeeded.of(result, self.task.name), None

    def _ending_of(self, exc: BaseException) -> AttemptResult:
        policy = self.claim.policy
        if isinstance(exc, Reject):
            if exc.requeue:  # type: ignore[attr-defined]
                return Lost("The handler gave the attempt back.", kind=AttemptOutcome.GIVEN_BACK)
            return Failed.from_exception(exc, final=True)
        if isinstance(exc, Retry):
            return _asked_for(exc, self.claim.max_retries)
        if is_shutdown(exc):
            return Lost("The worker was shut down.", AttemptOutcome.GIVEN_BACK, counted=False)
        if isinstance(exc, GivenBack):
            return Lost(str(exc), AttemptOutcome.GIVEN_BACK, counted=False)
        is_ours = isinstance(exc, BackbeatError) and exc.is_final
        final = is_ours or policy.gives_up_on(exc)
        return Failed.from_exception(exc, final=final, max_retries=self.claim.max_retries)

    def _conclude(self) -> Any:
        """End the task call so that Celery's own signals, logs and monitors are right."""
        ending, cause = self._ended
        if cause is None:
            self.result = ending.result if isinstance(ending, Succeeded) else None
            return self._result_without_secrets()
        if isinstance(ending, Lost):
            if not ending.counted and not isinstance(cause, GivenBack):
                raise cause
            raise Ignore(ending.error) from cause
        told = cause if isinstance(ending, Succeeded) else self.without_secrets(cause)
        if told is cause and isinstance(cause, (Ignore, Reject)):
            raise cause
        error = _as_exception(told)
        if self.claim.node.status == Status.RETRYING:
            self.log_retry(cause)
            retry = Retry(exc=error, when=self.claim.node.fires_at)
            raise retry from (cause if told is cause else None)
        self.is_failed = True
        self.explain_failure(self._after_commit, cause, error)
        if told is not cause:
            del ending, cause  # they quote what is hidden
            raise error from None
        raise error from (cause if error is not cause else cause.__cause__)

    def without_secrets(self, cause: BaseException) -> BaseException:
        """What Celery may log: another error in place of one that quotes a hidden value."""
        secrets = node_secrets(self.claim.node)
        text = "".join(traceback.format_exception(cause)) if secrets else ""
        if scrub(text, secrets, "***") == text:
            return cause
        return HandlerCrashed(scrub(repr(cause), secrets, "***"))

    def _result_without_secrets(self) -> Any:
        """What Celery may log: a text in place of a result that shows a hidden value."""
        if not settings.redact:
            return self.result
        secrets = node_secrets(self.claim.node) | secrets_in(self.result)
        text = saferepr(self.result, maxlen=None) if secrets else ""
        quiet = scrub(text, secrets, "***")
        return self.result if quiet == text else quiet

    def explain_failure(
        self, after_commit: AfterCommit | None, cause: BaseException, told: BaseException
    ) -> None:
        """Have the log show the handler's traceback, but for errors that its author expects."""
        if after_commit is None or isinstance(cause, self.claim.policy.log_without_traceback):
            return
        for failure in after_commit.announcements.failed:
            if failure.node_id == self.claim.node.pk:
                failure.cause = told

    def log_retry(self, cause: BaseException) -> None:
        """Tell of a failure after which the node is tried again."""
        node = self.claim.node
        secrets = node_secrets(node)
        error = scrub(repr(cause), secrets, "***")
        # A traceback quotes what it likes: where something is to be hidden, the row alone has it.
        quiet = isinstance(cause, (Retry, *self.claim.policy.log_without_traceback)) or bool(
            secrets
        )
        logger.warning(
            "Attempt %d of %s %s failed: %s; next try at %s.",
            node.attempt,
            node.name,
            node.pk,
            error,
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
        if not is_node_task(self.task):  # what Celery's own retry would take
            max_retries = self.task.max_retries if max_retries is None else max_retries
            if eta is None and countdown is None:
                countdown = self.task.default_retry_delay
        self.claim.max_retries = max_retries
        if self.claim.policy.is_exhausted(self.claim.node.retries + 1, max_retries):
            raise exc or MaxRetriesExceededError(f"Can't retry {self.task.name} any more.")
        countdown = seconds(countdown)
        if countdown is not None and not 0 <= countdown <= LONGEST_DELAY:
            raise BadTime(f"countdown is between 0 seconds and 100 years, not {quote(countdown)}.")
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

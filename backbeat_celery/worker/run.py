"""Run one attempt of a node inside a Celery task call: handler, record, and result for Celery.

The result is recorded here, before Celery stores it or sends a signal, because Celery ignores
exceptions of signal receivers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from celery import Task
from celery.exceptions import (
    Ignore,
    ImproperlyConfigured,
    MaxRetriesExceededError,
    Reject,
    Retry,
)
from celery.utils.saferepr import saferepr
from django.db import Error as AnyDatabaseError
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
from backbeat_celery.exceptions import BackbeatError, BadTime, StaleAttempt, UnsupportedOption
from backbeat_celery.inputs.policy import has_own_limit, is_node_task
from backbeat_celery.inputs.redaction import node_secrets, scrub, secrets_in
from backbeat_celery.inputs.task_options import LONGEST_DELAY, refuse_unrun
from backbeat_celery.runtime import failpoints
from backbeat_celery.runtime.compat.celery import handler_of
from backbeat_celery.runtime.current_node import current_node
from backbeat_celery.runtime.failpoints import WorkerDied
from backbeat_celery.runtime.text import quote
from backbeat_celery.runtime.transactions import is_broken, is_conflict
from backbeat_celery.states import AttemptOutcome, Status, Yields
from backbeat_celery.worker.exposed_arguments import ExposedArguments
from backbeat_celery.worker.recording import record_or_fail
from backbeat_celery.worker.shown_errors import HandlerCrashed, without_secrets
from backbeat_celery.worker.shutdown import is_kill, is_shutdown

logger = logging.getLogger(__name__)


class Run:
    """One attempt while its handler runs and its result is recorded."""

    def __init__(
        self, task: Task[Any, Any], claim: Claim, option_error: Exception | None = None
    ) -> None:
        self.task = task
        self._option_error = option_error
        self.claim = claim
        self.is_started = False
        self.before_handler: Callable[..., Any] | None = None
        self.exposed: ExposedArguments | None = None
        # `run` of a task with autoretry_for is a wrapper that retries through the broker.
        # Nodes are retried through their rows instead.
        self._handler = handler_of(task)
        self._requested_retry: Retry | None = None
        self._after_commit: AfterCommit | None = None
        self._ended: tuple[AttemptResult, BaseException | None]
        self.result: Any = None
        """The handler's return value; Celery may get another one."""
        self.is_failed = False
        """Whether the node has failed for good, which the engine logs."""

    def pop_after_commit(self) -> AfterCommit | None:
        """Give the work for after the commit, once."""
        after_commit, self._after_commit = self._after_commit, None
        return after_commit

    def execute(self, own_call: Callable[..., Any] | None = None) -> Any:
        """Call the handler, record the result, and return or raise what Celery expects.

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
        except AnyDatabaseError as exc:
            logger.exception("Cannot record node %s; its lease will expire.", self.claim.node.pk)
            raise Ignore("the outcome could not be recorded") from exc
        failpoints.hit("after_record")
        self._ended = ending, cause
        del ending, cause  # error trackers show local variables
        return self._conclude()

    def attempt(
        self, own_call: Callable[..., Any] | None = None
    ) -> tuple[AttemptResult, BaseException | None]:
        """Call the handler and give the result, which the caller records."""
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
            return self._result_of(exc), exc

    def _call(self) -> tuple[AttemptResult, BaseException | None]:
        return self.record_result(*self._outcome())

    def record_result(
        self, ending: AttemptResult, cause: BaseException | None
    ) -> tuple[AttemptResult, BaseException | None]:
        """Record a result, or, if that is impossible, the error as a failure."""
        self._after_commit, ending, cause = record_or_fail(self.claim, ending, cause)
        return ending, cause

    def _call_atomic(self) -> tuple[AttemptResult, BaseException | None]:
        """Run the handler and the record in one transaction."""
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
            ending, cause = self._result_of(exc), exc
            if isinstance(exc, AnyDatabaseError) and (
                is_conflict(exc) or is_broken(raw, self.claim.using)
            ):
                ending = Lost.by(exc, f"The transaction was rolled back: {exc!r}")
            return self.record_result(ending, cause)
        self._after_commit = after_commit
        return ending, cause

    def _run_handler(self) -> tuple[AttemptResult, BaseException | None]:
        node = self.claim.node
        if error := self._option_error or self.claim.input_error:
            raise error
        try:
            if self.before_handler is not None:
                self.before_handler(node.args, node.kwargs)
            result = self._handler(*node.args, **node.kwargs)
        except Ignore as exc:
            return Succeeded(None, at_once=True, ignored=self.claim.yields is None), exc
        failpoints.hit("after_handler")
        refuse_unrun(result, self.task.name)
        if self.claim.yields is not None:  # a handler that caught what replace() raised
            return Succeeded(None, at_once=True), None
        request = result if isinstance(result, Retry) else self._requested_retry
        if request is not None:
            raise request
        if node.awaits_report:
            return Succeeded(None), None  # the result comes with the report
        return Succeeded.of(result, self.task.name), None

    def _result_of(self, exc: BaseException) -> AttemptResult:
        ending = self._ending_of(exc)
        # Whoever shows the row later does not have the input, and cannot hide what is quoted.
        secrets = self.claim.given_secrets
        if secrets and isinstance(ending, Failed):
            return replace(
                ending,
                error=scrub(ending.error, secrets, "***"),
                traceback=scrub(ending.traceback, secrets, "***"),
            )
        return ending

    def _ending_of(self, exc: BaseException) -> AttemptResult:
        policy = self.claim.policy
        if isinstance(exc, Reject):
            if exc.requeue:  # type: ignore[attr-defined]
                error = "The handler gave the attempt back."
                return Lost.by(exc, error, kind=AttemptOutcome.GIVEN_BACK)
            return Failed.from_exception(exc, final=True)
        if isinstance(exc, Retry):
            return _failure_of(exc, self.claim.max_retries)
        if is_shutdown(exc):
            return Lost("The worker was shut down.", AttemptOutcome.GIVEN_BACK, counted=False)
        if isinstance(exc, GivenBack):
            return Lost(str(exc), AttemptOutcome.GIVEN_BACK, counted=False)
        is_ours = isinstance(exc, BackbeatError) and exc.is_final
        final = is_ours or policy.gives_up_on(exc)
        return Failed.from_exception(exc, final=final, max_retries=self.claim.max_retries)

    def _conclude(self) -> Any:
        """End the task call so that Celery's signals, logs and monitors are correct."""
        ending, cause = self._ended
        if cause is None:
            self.result = ending.result if isinstance(ending, Succeeded) else None
            return self._result_without_secrets()
        if isinstance(ending, Lost):
            if not ending.counted and not isinstance(cause, GivenBack):
                raise cause
            raise Ignore(ending.error) from cause
        reported = cause if isinstance(ending, Succeeded) else self.without_secrets(cause)
        if reported is cause and isinstance(cause, (Ignore, Reject)):
            raise cause
        error = _as_exception(reported)
        if self.claim.node.status == Status.RETRYING:
            self.log_retry(cause)
            retry = Retry(exc=error, when=self.claim.node.fires_at)
            raise retry from (cause if reported is cause else None)
        self.is_failed = True
        self.add_traceback(self._after_commit, cause, error)
        if reported is not cause:
            del ending, cause  # they contain secrets
            raise error from None
        raise error from (cause if error is not cause else cause.__cause__)

    def without_secrets(self, cause: BaseException) -> BaseException:
        """Give the error for Celery: another one if it contains secrets."""
        return without_secrets(cause, self._secrets())

    def _secrets(self) -> set[str]:
        return node_secrets(self.claim.node) | self.claim.given_secrets

    def _result_without_secrets(self) -> Any:
        """Give the result for Celery: a redacted text if it contains secrets."""
        if not settings.redact:
            return self.result
        secrets = self._secrets() | secrets_in(self.result)
        text = saferepr(self.result, maxlen=None) if secrets else ""
        redacted = scrub(text, secrets, "***")
        return self.result if redacted == text else redacted

    def add_traceback(
        self, after_commit: AfterCommit | None, cause: BaseException, error: BaseException
    ) -> None:
        """Add the traceback to the logged failure, except for the task's `throws`."""
        if after_commit is None or isinstance(cause, self.claim.policy.log_without_traceback):
            return
        for failure in after_commit.announcements.failed:
            if failure.node_id == self.claim.node.pk:
                failure.cause = error

    def log_retry(self, cause: BaseException) -> None:
        """Log a failure after which the node is retried."""
        node = self.claim.node
        secrets = self._secrets()
        error = scrub(repr(cause), secrets, "***")
        # A traceback may contain secrets; then only the row has it.
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

    def replace(self, signature: Any) -> Ignore:
        """Make the exception that ends the handler: the signature's value is the node's."""
        if "chord" in signature.options:
            raise ImproperlyConfigured("A signature that replaces a node is not part of a chord.")
        if signature.get("subtask_type") == "chain" and not signature.kwargs["tasks"]:
            raise ImproperlyConfigured("Cannot replace with an empty chain: nothing would run.")
        if self.claim.node.awaits_report:
            raise UnsupportedOption(
                f"{self.task.name} awaits completion from outside and cannot be replaced.",
                anchor="replace",
            )
        running = current_node()
        assert isinstance(running, RunningNode)
        running.spawn_replacement(signature)
        self.claim.yields = Yields.LAST
        return Ignore("replaced")

    def request_retry(
        self,
        exc: Exception | None,
        eta: datetime | None,
        countdown: float | None,
        max_retries: int | None,
    ) -> Retry:
        """Make the exception for `self.retry`; raise the error itself if retries are exhausted."""
        if not is_node_task(self.task):  # as Celery's own retry does
            if max_retries is None and not has_own_limit(self.claim.node.options):
                max_retries = self.task.max_retries
            if eta is None and countdown is None:
                countdown = self.task.default_retry_delay
        self.claim.max_retries = max_retries
        if self.claim.policy.is_exhausted(self.claim.node.retries + 1, max_retries):
            raise exc or MaxRetriesExceededError(f"Can't retry {self.task.name} any more.")
        countdown = seconds(countdown)
        if countdown is not None and not 0 <= countdown <= LONGEST_DELAY:
            raise BadTime(f"countdown is between 0 seconds and 100 years, not {quote(countdown)}.")
        when: Any = eta if eta is not None else countdown
        self._requested_retry = Retry(exc=exc, when=when)
        # Celery puts another one in the place of an exception that pickle cannot carry.
        self._requested_retry.exc = exc
        return self._requested_retry


def _failure_of(retry: Retry, max_retries: int | None) -> Failed:
    when = retry.when
    return Failed.from_exception(
        retry.exc or retry,
        wait=float(when) if isinstance(when, (int, float)) else None,
        fires_at=as_utc(when) if isinstance(when, datetime) else None,
        max_retries=max_retries,
    )


def _as_exception(exc: BaseException) -> Exception:
    # Celery stops the worker for a MemoryError and for what is not an Exception.
    if isinstance(exc, Exception) and not isinstance(exc, MemoryError):
        return exc
    return HandlerCrashed(repr(exc))

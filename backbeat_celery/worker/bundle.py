"""Run the nodes of one message, one after another, and record them together.

For Celery's signals and monitors a bundle is one task call. The result of each node is in its row
and history, and the engine logs its failures.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from celery import Task
from celery.exceptions import Ignore, Retry
from django.db import Error as AnyDatabaseError

from backbeat_celery.engine.advance import advance
from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.engine.bundle import still_claimed
from backbeat_celery.engine.claim import Claim
from backbeat_celery.engine.outcomes import AttemptResult, Lost
from backbeat_celery.exceptions import StaleAttempt
from backbeat_celery.runtime import failpoints, sessions
from backbeat_celery.states import AttemptOutcome, Status
from backbeat_celery.worker.canvas_ids import show_ids
from backbeat_celery.worker.exposed_arguments import ExposedArguments
from backbeat_celery.worker.recording import record_all_apart
from backbeat_celery.worker.run import Run
from backbeat_celery.worker.shutdown import is_shutdown

logger = logging.getLogger(__name__)

RECORD_AFTER = 1.0
"""Seconds after which finished nodes are recorded although the bundle is not finished."""


class Bundle:
    """The attempts of one message. For the task it behaves like the current attempt."""

    def __init__(self, task: Task[Any, Any], claims: Sequence[Claim]) -> None:
        self.task = task
        self.is_started = False
        self.is_failed = False
        self.before_handler: Callable[..., Any] | None = None
        self.exposed: ExposedArguments | None = None
        self.result: Any = None
        """The result for Celery's signals: always None, since each node's is in its row."""
        self._claims = claims
        self._current = Run(task, claims[0])
        self._ended: list[tuple[Run, AttemptResult, BaseException | None]] = []
        self._after_commit = AfterCommit()
        self._recorded_at = time.monotonic()
        self._opened: Mapping[str, Any] = {}

    @property
    def claim(self) -> Claim:
        """The attempt whose handler is called."""
        return self._current.claim

    def pop_after_commit(self) -> AfterCommit | None:
        """Give the work for after the commit, once."""
        after_commit, self._after_commit = self._after_commit, AfterCommit()
        return after_commit

    def replace(self, signature: Any) -> Ignore:
        """Make the exception that ends the current handler."""
        return self._current.replace(signature)

    def request_retry(
        self,
        exc: Exception | None,
        eta: datetime | None,
        countdown: float | None,
        max_retries: int | None,
    ) -> Retry:
        """Make the exception that `self.retry` raises in the current handler."""
        return self._current.request_retry(exc, eta, countdown, max_retries)

    def execute(self, own_call: Callable[..., Any] | None = None) -> None:
        """Call the handlers in the message's order."""
        self.is_started = True
        self._opened = sessions.opened()
        waiting = deque(self._claims)
        try:
            self._call_all(waiting, own_call)
        except BaseException as exc:
            if is_shutdown(exc):
                self._give_back(waiting)
                self._record()
            raise
        failpoints.hit("after_record")

    def _call_all(self, waiting: deque[Claim], own_call: Callable[..., Any] | None) -> None:
        while waiting:
            claim = waiting.popleft()
            cause = self._call(claim, own_call)
            if cause is not None and is_shutdown(cause):
                raise cause
            if time.monotonic() > self._recorded_at + RECORD_AFTER:
                self._record()
                with sessions.of_engine(claim.using):
                    advance(self.pop_after_commit() or AfterCommit(), claim.using)
                    held = still_claimed(waiting)
                waiting.clear()
                waiting.extend(held)
        self._record()

    def _call(self, claim: Claim, own_call: Callable[..., Any] | None) -> BaseException | None:
        run = self._current = Run(self.task, claim)
        run.before_handler = self.before_handler
        node = claim.node
        self.task.request.update(
            args=list(node.args), kwargs=dict(node.kwargs), retries=node.retries
        )
        show_ids(self.task.request, node)
        if self.exposed is not None:
            self.exposed.show(claim)
        failpoints.hit("before_handler")
        ending, cause = run.attempt(own_call)
        self._ended.append((run, ending, cause))
        sessions.close_all_but(self._opened)
        return cause

    def _give_back(self, claims: Iterable[Claim]) -> None:
        ending = Lost("The worker was shut down.", AttemptOutcome.GIVEN_BACK, counted=False)
        self._ended += [(Run(self.task, claim), ending, None) for claim in claims]

    def _record(self) -> None:
        ended, self._ended = self._ended, []
        self._recorded_at = time.monotonic()
        if not ended:
            return
        try:
            self._after_commit += record_all_apart(
                [(run.claim, ending) for run, ending, _ in ended]
            )
        except AnyDatabaseError as exc:
            logger.exception("Cannot record %d nodes; their leases will expire.", len(ended))
            raise Ignore("the outcomes could not be recorded") from exc
        except Exception:
            logger.exception("Cannot record %d nodes together.", len(ended))
            ended = [self._recorded_alone(*one) for one in ended]
        for run, _, cause in ended:
            status = run.claim.node.status
            if cause is not None and status == Status.RETRYING:
                run.log_retry(cause)
            elif cause is not None and status == Status.FAILED:
                run.add_traceback(self._after_commit, cause, run.without_secrets(cause))

    def _recorded_alone(
        self, run: Run, ending: AttemptResult, cause: BaseException | None
    ) -> tuple[Run, AttemptResult, BaseException | None]:
        """Record one node by itself, so that an error in another does not matter."""
        try:
            ending, cause = run.record_result(ending, cause)
        except StaleAttempt as exc:
            logger.warning("Discarding the result of a stale attempt: %s", exc)
        self._after_commit += run.pop_after_commit() or AfterCommit()
        return run, ending, cause

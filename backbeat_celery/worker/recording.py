"""Record a result in the engine's own session, also if a time limit or a shutdown interrupts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from celery.exceptions import SoftTimeLimitExceeded
from django.db import Error as AnyDatabaseError

from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.engine.bundle import record_bundle
from backbeat_celery.engine.claim import Claim
from backbeat_celery.engine.outcomes import AttemptResult, Failed
from backbeat_celery.engine.record import record
from backbeat_celery.exceptions import StaleAttempt
from backbeat_celery.runtime import sessions
from backbeat_celery.worker.shutdown import is_shutdown

logger = logging.getLogger(__name__)


def record_apart(claim: Claim, ending: AttemptResult) -> AfterCommit:
    """Record on the engine's own connection, whatever the state of the handler's."""
    return _uninterrupted([claim], lambda: record(claim, ending))


def record_all_apart(ended: Sequence[tuple[Claim, AttemptResult]]) -> AfterCommit:
    """Record the finished nodes of a bundle in the same way."""
    return _uninterrupted([claim for claim, _ in ended], lambda: record_bundle(ended))


def record_or_fail(
    claim: Claim, ending: AttemptResult, cause: BaseException | None
) -> tuple[AfterCommit, AttemptResult, BaseException | None]:
    """Record a result; if that raises, record the error as a final failure.

    It is not retried, since the handler has done its work.
    """
    as_claimed = dict(vars(claim.node))
    try:
        return record_apart(claim, ending), ending, cause
    except (AnyDatabaseError, StaleAttempt):
        raise
    except Exception as exc:
        logger.exception("Cannot record the result of node %s.", claim.node.pk)
        vars(claim.node).update(as_claimed)
        failed = Failed.from_exception(exc, final=True)
        return record_apart(claim, failed), failed, exc


def _uninterrupted(claims: Sequence[Claim], work: Callable[[], AfterCommit]) -> AfterCommit:
    """Run `work`, and once more if a soft time limit or a cold shutdown interrupts it.

    The handlers have ended already. `work` recognizes what it has committed before.
    """
    as_claimed = [dict(vars(claim.node)) for claim in claims]
    sessions.interrupt_project()
    with sessions.of_engine(claims[0].using):
        try:
            return work()
        except BaseException as exc:
            if not isinstance(exc, SoftTimeLimitExceeded) and not is_shutdown(exc):
                raise
            for claim, values in zip(claims, as_claimed, strict=True):
                vars(claim.node).update(values)
            after_commit = work()
            if is_shutdown(exc):
                raise
            return after_commit

"""Record an outcome whatever its handler has left behind, and whatever strikes meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from celery.exceptions import SoftTimeLimitExceeded
from django.db import Error as DatabaseTrouble

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
    """Record on the engine's own connection, whatever state the handler's is in."""
    return _undisturbed([claim], lambda: record(claim, ending))


def record_all_apart(ended: Sequence[tuple[Claim, AttemptResult]]) -> AfterCommit:
    """Record what is done of a bundle in the same way."""
    return _undisturbed([claim for claim, _ in ended], lambda: record_bundle(ended))


def record_or_fail(
    claim: Claim, ending: AttemptResult, cause: BaseException | None
) -> tuple[AfterCommit, AttemptResult, BaseException | None]:
    """Record an ending or, if something of ours or of the task's prevents that, why it cannot be.

    The handler has made its effect, so such an attempt fails for good.
    """
    as_claimed = dict(vars(claim.node))
    try:
        return record_apart(claim, ending), ending, cause
    except (DatabaseTrouble, StaleAttempt):
        raise
    except Exception as exc:
        logger.exception("Cannot record how node %s ended.", claim.node.pk)
        vars(claim.node).update(as_claimed)
        failed = Failed.from_exception(exc, final=True)
        return record_apart(claim, failed), failed, exc


def _undisturbed(claims: Sequence[Claim], work: Callable[[], AfterCommit]) -> AfterCommit:
    """Do `work` to its end: the handlers have ended already, and their outcomes stand.

    A soft time limit or a cold shutdown comes once. `work` can tell what it has done before.
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

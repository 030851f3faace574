"""Record an outcome whatever its handler has left behind, and whatever strikes meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from celery.exceptions import SoftTimeLimitExceeded

from backbeat_celery import sessions
from backbeat_celery.celery.shutdown import is_shutdown
from backbeat_celery.engine.bundles import record_bundle
from backbeat_celery.engine.claim import Claim
from backbeat_celery.engine.outcomes import Ending
from backbeat_celery.engine.record import record
from backbeat_celery.engine.wake import Wake


def record_apart(claim: Claim, ending: Ending) -> Wake:
    """Record on the engine's own connection, whatever state the handler's is in."""
    return _undisturbed([claim], lambda: record(claim, ending))


def record_all_apart(ended: Sequence[tuple[Claim, Ending]]) -> Wake:
    """Record what is done of a bundle in the same way."""
    return _undisturbed([claim for claim, _ in ended], lambda: record_bundle(ended))


def _undisturbed(claims: Sequence[Claim], work: Callable[[], Wake]) -> Wake:
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
            wake = work()
            if is_shutdown(exc):
                raise
            return wake

"""Record an outcome whatever its handler has left behind, and whatever strikes meanwhile."""

from __future__ import annotations

from celery.exceptions import SoftTimeLimitExceeded

from backbeat_celery import sessions
from backbeat_celery.celery.shutdown import is_shutdown
from backbeat_celery.engine.claim import Claim
from backbeat_celery.engine.outcomes import Ending
from backbeat_celery.engine.record import record
from backbeat_celery.engine.wake import Wake


def record_apart(claim: Claim, ending: Ending) -> Wake:
    """Record on the engine's own connection, whatever state the handler's is in.

    A soft time limit or a cold shutdown comes once, and here the handler has ended already:
    its outcome stands.
    """
    as_claimed = dict(vars(claim.node))
    try:
        return _record(claim, ending)
    except SoftTimeLimitExceeded:
        vars(claim.node).update(as_claimed)
        return _record(claim, ending)
    except BaseException as exc:
        if is_shutdown(exc):
            vars(claim.node).update(as_claimed)
            _record(claim, ending)
        raise


def _record(claim: Claim, ending: Ending) -> Wake:
    sessions.interrupt_project()
    with sessions.of_engine(claim.using):
        return record(claim, ending)

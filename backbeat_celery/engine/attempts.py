"""The rows of attempts that have ended."""

from __future__ import annotations

from backbeat_celery import clock
from backbeat_celery.models import Attempt
from backbeat_celery.states import AttemptOutcome


def ended(
    attempt: Attempt, outcome: AttemptOutcome, *, error: str = "", trace: str = ""
) -> Attempt:
    """Complete the row of an attempt that ends now; the caller inserts it."""
    attempt.finished_at = clock.now()
    attempt.outcome = outcome
    attempt.error = error or None
    attempt.traceback = trace or None
    return attempt

"""The rows of attempts that have ended."""

from __future__ import annotations

from typing import Any

from backbeat_celery import clock
from backbeat_celery.models import Attempt, Node
from backbeat_celery.states import AttemptOutcome


def ended_attempt(
    node: Node, claim_id: Any, outcome: AttemptOutcome, *, error: str = "", trace: str = ""
) -> Attempt:
    """Make the row of an attempt that ends now; the caller inserts it.

    `claim_id` is that of the attempt, which the node's row may have lost already.
    """
    return Attempt(
        node_id=node.pk,
        number=node.attempt,
        claim_id=claim_id,
        worker=node.worker,
        started_at=node.started_at,
        finished_at=clock.now(),
        outcome=outcome,
        error=error or None,
        traceback=trace or None,
    )

"""Record the result of a claimed attempt in one transaction, and repeat it after a conflict."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import Q

from backbeat_celery.engine.after_commit import (
    AfterCommit,
    rebuild_after_commit,
)
from backbeat_celery.engine.attempt_results import (
    latest_progress,
    without_known_keys,
    write_attempt_result,
)
from backbeat_celery.engine.awaiting import (
    await_report,
    is_awaiting_report,
    load_report,
)
from backbeat_celery.engine.claim import Claim
from backbeat_celery.engine.outcomes import AttemptResult, Succeeded
from backbeat_celery.engine.statements import record as postgres
from backbeat_celery.exceptions import StaleAttempt
from backbeat_celery.models import Attempt, Node
from backbeat_celery.models.transitions import StaleNode
from backbeat_celery.runtime import failpoints
from backbeat_celery.runtime.transactions import repeat_on
from backbeat_celery.states import AttemptOutcome, Status

CHANGING_COLUMNS = ("next_seq", "next_stage", "next_barrier", "report")
"""Columns that other processes may change while a handler runs."""


def record(claim: Claim, ending: AttemptResult) -> AfterCommit:
    """Write the result of a claimed attempt; give the work for after the commit.

    Raises StaleAttempt if the attempt is no longer the node's current one.
    """
    failpoints.hit("before_record")
    # A commit that failed has left its values in the instance.
    after_commit = repeat_on(
        claim.node, lambda _: _record(claim, ending), using=claim.using, outage=True
    )
    failpoints.hit("recorded")
    return after_commit


def _record(claim: Claim, ending: AttemptResult) -> AfterCommit:
    if isinstance(ending, Succeeded) and not ending.note and not ending.ignored:
        after_commit = postgres.record_leaf(claim, ending.result)
        if after_commit is not None:
            return after_commit
    as_claimed = dict(vars(claim.node))
    while True:
        # A transaction that was rolled back has left its values in the instance.
        vars(claim.node).update(as_claimed)
        try:
            with transaction.atomic(using=claim.using):
                if claim.node.awaits_report:
                    return _write_return(claim, ending)
                return write_attempt_result(claim, ending)
        except StaleNode:
            if _is_recorded(claim, ending):
                return rebuild_after_commit(claim.node.pk, claim.using)
            as_claimed |= _read_changes(claim)


def _write_return(claim: Claim, ending: AttemptResult) -> AfterCommit:
    """Write the return of a handler whose attempt may end by a report instead."""
    node, returns = claim.node, Q(lease_expires_at__isnull=False)
    if isinstance(ending, Succeeded):
        if node.report is not None:
            ending = load_report(node.report)
        elif ending.at_once:
            returns &= Q(report=None)
        else:
            specs = without_known_keys(node, claim.specs)
            await_report(node, specs, claim.now(), **latest_progress(claim))
            return AfterCommit()
    return write_attempt_result(claim, ending, returns)


def _is_recorded(claim: Claim, ending: AttemptResult) -> bool:
    """Tell whether an earlier try was committed although its answer was lost."""
    if claim.node.awaits_report and is_awaiting_report(claim.node, claim.claim_id):
        return True
    rows = Attempt.objects.using(claim.using).filter(
        node_id=claim.node.pk, number=claim.node.attempt, claim_id=claim.claim_id
    )
    # An attempt that the sweeper or a cancel has ended also has a row, with another outcome.
    ours = AttemptOutcome.SUCCEEDED if isinstance(ending, Succeeded) else ending.kind
    return ours != AttemptOutcome.LOST and rows.filter(outcome=ours).exists()


def _read_changes(claim: Claim) -> dict[str, Any]:
    """Read the changed columns again; raise StaleAttempt if the attempt is no longer current."""
    with transaction.atomic(using=claim.using):
        # With a lock: only a locking read sees the newest row under REPEATABLE READ.
        rows = Node.objects.using(claim.using).filter(pk=claim.node.pk)
        row = rows.without_payload().locked().first()
    if row is None or row.status != Status.RUNNING or row.claim_id != claim.claim_id:
        status = row.status if row else "deleted"
        raise StaleAttempt(status, f"report of attempt {claim.node.attempt}", claim.node.pk)
    return {name: getattr(row, name) for name in CHANGING_COLUMNS}

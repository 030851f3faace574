"""External reports: results of attempts that are not decided by their handler's return."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from backbeat_celery.engine.advance import advance_after_commit
from backbeat_celery.engine.attempt_results import write_attempt_result
from backbeat_celery.engine.awaiting import ExternalReport, store_report
from backbeat_celery.engine.claim import Claim
from backbeat_celery.engine.order.finish import lock_node
from backbeat_celery.engine.outcomes import Succeeded
from backbeat_celery.exceptions import InvalidTransition, StaleAttempt
from backbeat_celery.inputs.policy import policy_for
from backbeat_celery.models import Node
from backbeat_celery.models.transitions import RowDeleted
from backbeat_celery.runtime import failpoints
from backbeat_celery.runtime.transactions import repeat
from backbeat_celery.states import Status


@dataclass(frozen=True, slots=True)
class Fence:
    """Identifies the attempt that a report is about; None is not checked."""

    attempt: int | None = None
    claim_id: UUID | None = None


def record_report(
    node: Node, report: ExternalReport, fence: Fence, *, outage: bool = False
) -> None:
    """Record a report about a node's running attempt, or store it until the handler returns.

    Raises StaleAttempt if the attempt is not the current one, and InvalidTransition if the node
    does not await a report; nothing is changed then.
    """
    using = node.alias

    def once() -> None:
        with transaction.atomic(using=using):
            row, now = _lock(node, report)
            failpoints.hit("report_locked")
            _check(row, report, fence)
            if row.lease_expires_at is not None:
                store_report(row, report)
                return
            advance_after_commit(write_attempt_result(_claim_of(row, now), report), using)

    repeat(once, using=using, outage=outage)


def _lock(node: Node, report: ExternalReport) -> tuple[Node, datetime]:
    """Lock a node, and before it the parent whose next stage its end may open."""
    using = node.alias
    rows = Node.objects.using(using).filter(pk=node.pk).defer("result", "error", "metadata")
    try:
        if node.is_blocking and node.parent_id is not None:
            lock_node(node.parent_id, using)
        row = rows.locked().with_time().get()
    except (RowDeleted, Node.DoesNotExist):
        raise StaleAttempt("deleted", _verb(report), node.pk) from None
    return row, row.db_now


def _verb(report: ExternalReport) -> str:
    return "complete" if isinstance(report, Succeeded) else "fail"


def _check(row: Node, report: ExternalReport, fence: Fence) -> None:
    verb = _verb(report)
    is_other = fence.attempt is not None and fence.attempt != row.attempt
    if is_other or (fence.claim_id is not None and fence.claim_id != row.claim_id):
        hint = f"The report is about attempt {fence.attempt}, which is not the running one."
        raise StaleAttempt(row.status, verb, row.pk, hint)
    if not row.awaits_report:
        hint = "It completes when its handler returns, unless the task has awaits_completion=True."
        raise InvalidTransition(row.status, verb, row.pk, hint)
    if row.status != Status.RUNNING:
        hint = "Only a running attempt can be reported."
        raise InvalidTransition(row.status, verb, row.pk, hint)
    if row.report is not None:
        hint = "There is already a report; it counts when the handler returns."
        raise InvalidTransition(row.status, verb, row.pk, hint)


def _claim_of(row: Node, now: datetime) -> Claim:
    """Give the running attempt as a claim, which its worker no longer holds."""
    assert row.claim_id is not None
    return Claim(row, row.claim_id, "", policy_for(row), now)

"""Reports from outside: the outcome of an attempt whose handler does not decide it."""

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
    """The attempt that a report is about; what is None is not checked."""

    attempt: int | None = None
    claim_id: UUID | None = None


def report(node: Node, said: ExternalReport, fence: Fence, *, outage: bool = False) -> None:
    """Record what is said of a node's running attempt, or keep it until the handler returns.

    Raises StaleAttempt if the attempt is not the current one, InvalidTransition if the node
    awaits no report; nothing is changed then.
    """
    using = node.alias

    def once() -> None:
        with transaction.atomic(using=using):
            row, now = _lock(node, said)
            failpoints.hit("report_locked")
            _refuse(row, said, fence)
            if row.lease_expires_at is not None:
                store_report(row, said)
                return
            advance_after_commit(write_attempt_result(_claim_of(row, now), said), using)

    repeat(once, using=using, outage=outage)


def _lock(node: Node, said: ExternalReport) -> tuple[Node, datetime]:
    """Lock a node after the parent whose next stage its end may open."""
    using = node.alias
    rows = Node.objects.using(using).filter(pk=node.pk).defer("result", "error", "metadata")
    try:
        if node.is_blocking and node.parent_id is not None:
            lock_node(node.parent_id, using)
        row = rows.locked().with_time().get()
    except (RowDeleted, Node.DoesNotExist):
        raise StaleAttempt("deleted", _verb(said), node.pk) from None
    return row, row.db_now


def _verb(said: ExternalReport) -> str:
    return "complete" if isinstance(said, Succeeded) else "fail"


def _refuse(row: Node, said: ExternalReport, fence: Fence) -> None:
    verb = _verb(said)
    is_other = fence.attempt is not None and fence.attempt != row.attempt
    if is_other or (fence.claim_id is not None and fence.claim_id != row.claim_id):
        hint = f"The report is about attempt {fence.attempt}, which is not the running one."
        raise StaleAttempt(row.status, verb, row.pk, hint)
    if not row.awaits_report:
        hint = "Its handler's return decides; awaits_completion=True on the task changes that."
        raise InvalidTransition(row.status, verb, row.pk, hint)
    if row.status != Status.RUNNING:
        hint = "Only a running attempt can be reported."
        raise InvalidTransition(row.status, verb, row.pk, hint)
    if row.report is not None:
        hint = "A report has come already; it counts when the handler returns."
        raise InvalidTransition(row.status, verb, row.pk, hint)


def _claim_of(row: Node, now: datetime) -> Claim:
    """The running attempt as its worker would hold it, had it not let go."""
    assert row.claim_id is not None
    return Claim(row, row.claim_id, "", policy_for(row), now)

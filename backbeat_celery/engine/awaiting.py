"""Nodes that await completion: the handler has returned, the result comes from outside.

Such a node stays `running` without a lease. Only its timeout can end it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q

from backbeat_celery.engine.after_commit import AT_ONCE
from backbeat_celery.engine.order.cancel import cancel_below, cancel_rows
from backbeat_celery.engine.order.placement import Placement
from backbeat_celery.engine.order.turns import move_barrier
from backbeat_celery.engine.outcomes import Failed, Succeeded
from backbeat_celery.inputs.node_spec import NodeSpec
from backbeat_celery.models import Node
from backbeat_celery.models.transitions import StaleNode
from backbeat_celery.states import Status

ExternalReport = Succeeded | Failed
"""The result of an attempt that is reported from outside."""


def await_report(node: Node, specs: Iterable[NodeSpec], now: datetime, **values: Any) -> None:
    """Leave a node running after its handler has returned, with its children pending.

    Runs in the caller's transaction. Raises StaleNode if the attempt is no longer the current
    one, if a child was added, or if a report was stored.
    """
    placement = Placement(node, now)
    placement.add(specs, spawned_by=node.attempt)
    placement.assign(Status.PENDING)
    untouched = Q(
        pk=node.pk,
        attempt=node.attempt,
        claim_id=node.claim_id,
        next_seq=node.next_seq,
        report=None,
    )
    rows = Node.objects.using(node.alias).filter(untouched).with_lease()
    if not rows.update(
        lease_expires_at=None, task_id=node.task_id, **values, **placement.counters()
    ):
        raise StaleNode
    placement.insert()


def is_awaiting_report(node: Node, claim_id: UUID) -> bool:
    """Tell whether this attempt's handler has returned and its result is awaited."""
    rows = Node.objects.using(node.alias).filter(pk=node.pk, status=Status.RUNNING)
    return rows.filter(claim_id=claim_id, lease_expires_at=None).exists()


def store_report(row: Node, report: ExternalReport) -> None:
    """Store a report that came before the handler returned; the record applies it then."""
    stored: dict[str, Any] = {"actor": report.actor, "reason": report.reason}
    if isinstance(report, Succeeded):
        stored |= {"result": report.result, "note": report.note}
    else:
        names = ("error", "traceback", "error_type", "error_args", "final")
        stored |= {name: getattr(report, name) for name in names}
    Node.objects.using(row.alias).filter(pk=row.pk).update(report=stored)


def load_report(stored: Mapping[str, Any]) -> ExternalReport:
    """Read what `store_report` has written."""
    return Succeeded(**stored) if "result" in stored else Failed(**stored)


def drop_children(node: Node) -> None:
    """Cancel the pending children of an attempt that fails, with all nodes below them.

    Their keys are free for the next attempt. Children that were added from outside stay.
    """
    children = Node.objects.using(node.alias).children_of(node.pk)
    spawned = children.filter(status=Status.PENDING, spawned_by=node.attempt)
    pending, has_barrier = spawned.without_payload().order_by("seq").locked(), False
    last = -1
    while rows := list(pending.filter(seq__gt=last)[:AT_ONCE]):
        last = rows[-1].seq
        cancel_rows(rows, reason="its parent's attempt failed", key=None)
        below = [row.pk for row in rows]
        cancel_below(below, node.alias, actor="", reason="a node above was canceled")
        has_barrier = has_barrier or any(row.barrier for row in rows)
    if has_barrier:
        move_barrier(node, -1)

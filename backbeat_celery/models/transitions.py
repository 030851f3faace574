"""The only writer of a node's status: check the table, update the row if it still is as it
was read, and write the history, in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Q

from backbeat_celery.exceptions import InvalidTransition
from backbeat_celery.models import Node, Transition
from backbeat_celery.runtime import clock
from backbeat_celery.runtime.batches import batched
from backbeat_celery.states import CLAIMABLE, FINISHED, Status, is_allowed

BEGUN = frozenset({Status.RUNNING, Status.RETRYING, Status.FAILED, *FINISHED})
"""Statuses of nodes that do not expire any more."""

CHUNK = 5000
"""Rows changed in one statement: SQLite limits the parameters of one."""


class StaleNode(Exception):
    """The row has changed since it was read: another process was faster."""


class RowDeleted(StaleNode):
    """The row is gone since it was read: its workflow was deleted, or it was purged."""


def transition(
    node: Node,
    to: Status,
    *,
    reason: str = "",
    actor: str = "",
    guard: Q | None = None,
    claimed_from: str = "",
    **values: Any,
) -> None:
    """Move one node to another status, together with other columns of it.

    The row must still have the status in `node` and match `guard`, else StaleNode is raised
    and nothing is written. `claimed_from` is the status before the running one that now ends,
    when the caller knows it.
    """
    if not is_allowed(node.status, to):
        raise InvalidTransition(node.status, to, node.pk)
    using = node.alias
    values = {**_columns(to), **values, "status": to}
    rows = Node.objects.using(using).filter(pk=node.pk, status=node.status)
    if not (rows.filter(guard) if guard is not None else rows).update(**values):
        raise StaleNode
    if to != Status.RUNNING:
        history = _history(node, to, reason=reason, actor=actor, claimed_from=claimed_from)
        Transition.objects.using(using).bulk_create(history)
    _remember(node, values)


def transition_all(
    nodes: Sequence[Node],
    to: Status,
    *,
    reason: str = "",
    actor: str = "",
    **values: Any,
) -> None:
    """Move nodes of one status, whose rows the caller has locked, in one statement each."""
    if not nodes:
        return
    status, using = nodes[0].status, nodes[0].alias
    if not is_allowed(status, to):
        raise InvalidTransition(status, to, nodes[0].pk)
    values = {**_columns(to), **values, "status": to}
    for chunk in batched(nodes, CHUNK):
        rows = Node.objects.using(using).filter(pk__in=[node.pk for node in chunk], status=status)
        if rows.update(**values) != len(chunk):
            raise StaleNode
        Transition.objects.using(using).bulk_create(
            row
            for node in chunk
            for row in _history(node, to, reason=reason, actor=actor, claimed_from="")
        )
    for node in nodes:
        _remember(node, values)


def cleared_by(to: Status) -> list[str]:
    """Name the columns that become NULL: they have a value in certain statuses only."""
    names = []
    if to not in CLAIMABLE:
        names.append("publish_at")
    if to != Status.RUNNING:
        names += ["claim_id", "task_id", "report", "lease_expires_at", "times_out_at"]
    if to in BEGUN:
        names.append("expires_at")
    if to in FINISHED:
        names.append("awaited_by")
    return names


def _columns(to: Status) -> dict[str, Any]:
    """The columns that a status decides."""
    columns: dict[str, Any] = dict.fromkeys(cleared_by(to))
    if to in FINISHED:
        columns["finished_at"] = clock.now()
    if to == Status.CANCELED:
        columns["outcome"] = ""  # a node that was resolved and still waited has one
    return columns


def _history(
    node: Node, to: Status, *, reason: str, actor: str, claimed_from: str
) -> list[Transition]:
    rows = []
    if node.status == Status.RUNNING:
        # The step into `running` is written with the step that ends it, which saves an INSERT.
        before = claimed_from or status_before_claim(node)
        rows.append(_row(node, before, Status.RUNNING, node.started_at, "", node.worker))
    rows.append(_row(node, node.status, to, clock.now(), reason, actor))
    return rows


def _row(
    node: Node, before: str, after: str, at: datetime | Any, reason: str, actor: str
) -> Transition:
    return Transition(
        node_id=node.pk,
        from_status=before,
        to_status=after,
        at=at,
        attempt=node.attempt,
        reason=reason[:255],
        actor=actor[:150],
    )


def status_before_claim(node: Node) -> str:
    """Find out from the history what a running node was before it was claimed."""
    last = Transition.objects.using(node.alias).filter(node_id=node.pk).order_by("-pk").first()
    return last.to_status if last else Status.QUEUED


def _remember(node: Node, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if not hasattr(value, "resolve_expression"):
            setattr(node, name, value)

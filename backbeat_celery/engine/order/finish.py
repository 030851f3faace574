"""Finish a node: the one place where `complete` is written and the next stage opens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q

from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.engine.order.placement import Placement
from backbeat_celery.engine.order.turns import open_ready
from backbeat_celery.inputs.callbacks import callbacks_of, in_context_of
from backbeat_celery.inputs.node_spec import CALLBACKS, NodeSpec
from backbeat_celery.models import Node, Workflow
from backbeat_celery.models.transitions import RowDeleted, transition
from backbeat_celery.runtime import clock, failpoints
from backbeat_celery.runtime.lock_timeouts import step
from backbeat_celery.states import Outcome, Status


def lock_node(pk: UUID, using: str) -> tuple[Node, datetime]:
    """Lock a node's row until the transaction ends; give it with the database's time.

    Raises RowDeleted if there is none.
    """
    rows = Node.objects.using(using).filter(pk=pk).locked().without_payload().with_time()
    try:
        row = rows.get()
    except Node.DoesNotExist:
        raise RowDeleted from None
    return row, row.db_now


def finish(
    node: Node,
    *,
    outcome: Outcome,
    reason: str = "",
    actor: str = "",
    guard: Q | None = None,
    claimed_from: str = "",
    **values: Any,
) -> AfterCommit:
    """Complete a node and queue the siblings that it held back, in the caller's transaction.

    Raises StaleNode when the row is no longer as it was read; the caller rolls back.
    """
    using = node.alias
    after_commit = AfterCommit()
    if node.is_root:
        # A workflow's row is locked before its nodes, here as everywhere.
        Workflow.objects.using(using).filter(pk=node.workflow_id).update(
            unfinished=None, finished_at=clock.now()
        )
    parent = None
    if node.is_blocking and node.parent_id is not None:
        # Ancestors are locked before descendants, here as everywhere.
        parent, now = lock_node(node.parent_id, using)
        failpoints.hit("parent_locked")
    transition(
        node,
        Status.COMPLETE,
        reason=reason,
        actor=actor,
        guard=guard,
        claimed_from=claimed_from,
        outcome=outcome,
        **values,
    )
    failpoints.hit("finish_written")
    after_commit.add_finished(node)
    (
        after_commit.announcements.workflows
        if node.is_root
        else after_commit.announcements.completed
    ).append(node.pk)
    if parent is not None:
        # Where something that counts is queued now, the parent goes on waiting: no look.
        after_commit.maybe_complete.clear()
        after_commit += open_ready(parent, node.seq, now)
    if outcome != Outcome.SHUTDOWN and not node.is_root and CALLBACKS in node.options:
        links = callbacks_of(node.options).links
        if links:
            links = in_context_of(node.options, links)
            after_commit += add_at_once(node, links, clock_time(node) if parent is None else now)
    return after_commit


def add_at_once(parent: Node, specs: Sequence[NodeSpec], now: datetime) -> AfterCommit:
    """Add children for which nobody waits, and start them whatever the parent's status.

    The caller holds the parent's row lock.
    """
    if not specs:
        return AfterCommit()
    placement = Placement(parent, now)
    placement.add(specs, spawned_by=None)
    placement.assign_statuses()
    Node.objects.using(parent.alias).filter(pk=parent.pk).update(**placement.counters())
    after_commit = placement.insert()
    after_commit.maybe_complete.clear()
    return after_commit


def clock_time(node: Node) -> datetime:
    """The database's time, read with a row that this transaction has locked."""
    return lock_node(node.pk, node.alias)[1]


def complete_flag(flag: Node) -> AfterCommit:
    """Complete a flag whose turn and time have come."""
    with step(flag.alias):
        return finish(flag, outcome=Outcome.SUCCEEDED, reason="flag is due")

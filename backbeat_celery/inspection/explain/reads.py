"""What an explanation reads: a node, and the most relevant of the nodes it waits for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Case, IntegerField, Value, When

from backbeat_celery.engine.order.waiting_graph import linked_signals, siblings_ahead
from backbeat_celery.models import Node, SweeperLease, Transition
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.states import Status


@dataclass(frozen=True, slots=True)
class Blockers:
    """The number of nodes that are waited for, and the most relevant one."""

    count: int
    first: Node


def read(pk: Any, using: str) -> Node:
    """Read a node with its workflow and the engine's time."""
    return _rows(Node.objects.using(using).filter(pk=pk)).get()


def parent_of(node: Node) -> Node | None:
    """Read the parent of a node."""
    return read(node.parent_id, node.alias) if node.parent_id else None


def open_children(node: Node) -> Blockers | None:
    """Read the unfinished children that a node waits for."""
    return _blockers(Node.objects.using(node.alias).awaited_by(node.pk))


def blocking_siblings(node: Node) -> Blockers | None:
    """Read the unfinished siblings that a ready node waits for."""
    if node.parent_id is None:
        return None
    return _blockers(
        siblings_ahead(node.parent_id, node.seq, barrier=node.barrier, using=node.alias)
    )


def open_links(node: Node) -> Blockers | None:
    """Read the unfinished signals of other workflows that a node waits for."""
    return _blockers(linked_signals(node.pk, node.alias))


def rescue_of(node: Node) -> Node | None:
    """Read the latest rescue of a failed node."""
    children = Node.objects.using(node.alias).children_of(node.pk)
    return _rows(children.filter(rescue=True)).order_by("-seq").first()


def last_change(node: Node) -> Transition | None:
    """Read the transition to the node's current status."""
    return Transition.objects.using(node.alias).filter(node_id=node.pk).order_by("-pk").first()


def sweeper(using: str) -> SweeperLease | None:
    """Read the sweeper's lease of this database, with the time of its last pass."""
    return SweeperLease.objects.using(using).first()


def _blockers(rows: NodeQuerySet) -> Blockers | None:
    """Count them, and pick a failed one, which does not continue by itself, or else the first."""
    count = rows.count()
    if not count:
        return None
    failed_first = Case(
        When(status=Status.FAILED, then=Value(0)),
        default=Value(1),
        output_field=IntegerField(),
    )
    first = _rows(rows).order_by(failed_first, "seq").first()
    return Blockers(count, first) if first is not None else None


def _rows(rows: NodeQuerySet) -> NodeQuerySet:
    slim = rows.defer("args", "kwargs", "result", "metadata").with_time()
    return slim.select_related("workflow")

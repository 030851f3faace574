"""What a verb would touch, told before it does: reads that change nothing and lock nothing.

A preview is true at the moment it is made; the verb decides anew, under its locks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from backbeat_celery.engine.order.consequences import (
    Consequences,
    canceled_by_shutdown,
    following_cancel,
    following_links,
    following_reset,
    following_resolve,
    following_shutdown,
)
from backbeat_celery.models import Node, Workflow
from backbeat_celery.states import Status

MOST = 1000
"""Nodes that are looked at; beyond it the count is a lower bound."""

LEVELS = 50
LISTED = 20


@dataclass(slots=True)
class AffectedNodes:
    """Nodes that something happens to, besides the one that the verb is called on."""

    nodes: list[Node] = field(default_factory=list)
    is_more: bool = False

    @property
    def count(self) -> int:
        return len(self.nodes)

    @property
    def listed(self) -> list[Node]:
        """As many as fit on a page."""
        return self.nodes[:LISTED]

    @property
    def unlisted(self) -> int:
        return self.count - len(self.listed)

    def take(self, rows: Sequence[Node]) -> None:
        """Add rows as long as there is room."""
        room = MOST - self.count
        self.nodes += rows[:room]
        self.is_more = self.is_more or len(rows) > room

    def join(self, other: AffectedNodes) -> None:
        """Add those of another, each node once."""
        known = {node.pk for node in self.nodes}
        self.take([node for node in other.nodes if node.pk not in known])
        self.is_more = self.is_more or other.is_more


def canceled_nodes(verb: str, target: Node | Workflow) -> AffectedNodes:
    """Tell which nodes a verb on this node or workflow would cancel."""
    find = _CANCELS.get(verb)
    if find is None:
        return AffectedNodes()
    if isinstance(target, Workflow):
        target = target.root
    return find(target)


@dataclass(slots=True)
class Continuation:
    """What goes on by a verb: nodes that start, and those that are complete thereby."""

    started: AffectedNodes = field(default_factory=AffectedNodes)
    completed: AffectedNodes = field(default_factory=AffectedNodes)

    def add(self, other: Consequences) -> None:
        """Add what follows from one node."""
        self.started.take(other.started)
        self.completed.take(other.completed)


def continued_nodes(verb: str, target: Node | Workflow) -> Continuation:
    """Tell which nodes start, and which are complete, by a verb on this node."""
    ahead, find = Continuation(), _LETS_GO.get(verb)
    ended: list[Node] = []
    if isinstance(target, Workflow):
        ended = canceled_nodes(verb, target).nodes
    elif find is not None and not target.is_finished:
        following = find(target)
        ahead.add(following)
        ended = following.ended
    for behind in following_links(ended):
        ahead.add(behind)
    return ahead


def resumed_nodes(workflow: Workflow) -> AffectedNodes:
    """Tell which nodes a resume would queue."""
    paused = _nodes(workflow.root).filter(workflow=workflow.pk, status=Status.PAUSED)
    return _touched(paused.unfinished().order_by("pk"))


def _nodes(node: Node) -> Any:
    return Node.objects.using(node.alias).without_payload()


def _touched(rows: QuerySet[Node]) -> AffectedNodes:
    touched = AffectedNodes()
    touched.take(list(rows[: MOST + 1]))
    return touched


def _whole_workflow(root: Node) -> AffectedNodes:
    nodes = _nodes(root).filter(workflow=root.workflow_id, parent__isnull=False)
    return _touched(nodes.unfinished().order_by("pk"))


def _below(node: Node) -> AffectedNodes:
    touched = AffectedNodes()
    _add_below([node.pk], touched, node)
    return touched


def _below_but_rescues(node: Node) -> AffectedNodes:
    """What a retry cancels: children of earlier attempts and what is below them."""
    touched = AffectedNodes()
    children = _nodes(node).children_of(node.pk).filter(rescue=False).order_by("seq")
    rows = list(children[: MOST + 1])
    touched.take([row for row in rows if not row.is_finished])
    _add_below([row.pk for row in rows if row.next_seq], touched, node)
    return touched


def _behind(node: Node) -> AffectedNodes:
    """What a shutdown cancels: the siblings that waited for the node, with their subtrees."""
    touched = AffectedNodes()
    if node.parent_id is None:
        return touched
    rows = list(canceled_by_shutdown(node).without_payload()[: MOST + 1])
    touched.take(rows)
    _add_below([row.pk for row in rows if row.next_seq], touched, node)
    return touched


def _add_below(parents: list[UUID], touched: AffectedNodes, node: Node) -> None:
    """Add what is unfinished below these nodes, a level at a time."""
    level = parents
    for _level in range(LEVELS):
        if not level or touched.is_more:
            return
        children = _nodes(node).filter(parent__in=level[:MOST]).order_by("parent", "seq")
        touched.take(list(children.unfinished()[: MOST + 1]))
        level = list(children.filter(next_seq__gt=0).values_list("pk", flat=True)[: MOST + 1])
    touched.is_more = touched.is_more or bool(level)


_CANCELS: Mapping[str, Callable[[Node], AffectedNodes]] = {
    "retry": _below_but_rescues,
    "edit_arguments": _below_but_rescues,
    "shutdown": _behind,
    "cancel": _below,
    "reset": _below,
    "cancel_workflow": _whole_workflow,
}
_LETS_GO: Mapping[str, Callable[[Node], Consequences]] = {
    "resolve": following_resolve,
    "shutdown": following_shutdown,
    "cancel": following_cancel,
    "reset": following_reset,
}

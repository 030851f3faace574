"""What a verb would affect: reads that change nothing and lock nothing.

A preview is true at the moment it is made; the verb reads again, under its locks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from backbeat_celery.engine.order.consequences import (
    Consequences,
    canceled_by_loss,
    canceled_by_shutdown,
    following_cancel,
    following_links,
    following_reset,
    following_resolve,
    following_shutdown,
)
from backbeat_celery.engine.order.subtree import levels_below
from backbeat_celery.models import Node, Workflow
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.states import Status

MOST = 1000
"""Nodes that are read; beyond it the count is a lower bound."""

LEVELS = 50
WHOLE = 2**62
"""A level is read by one statement, since only its first nodes are needed."""

LISTED = 20


@dataclass(slots=True)
class AffectedNodes:
    """Nodes that a verb changes, besides the one that it is called on."""

    nodes: list[Node] = field(default_factory=list)
    is_more: bool = False

    @property
    def count(self) -> int:
        return len(self.nodes)

    @property
    def listed(self) -> list[Node]:
        """The first ones, as many as fit on a page."""
        return self.nodes[:LISTED]

    def take(self, rows: Sequence[Node]) -> None:
        """Add nodes, up to `MOST` in all."""
        room = MOST - self.count
        self.nodes += rows[:room]
        self.is_more = self.is_more or len(rows) > room

    def join(self, other: AffectedNodes) -> None:
        """Add the nodes of another, each node once."""
        known = {node.pk for node in self.nodes}
        self.take([node for node in other.nodes if node.pk not in known])
        self.is_more = self.is_more or other.is_more


def canceled_nodes(verb: str, target: Node | Workflow) -> AffectedNodes:
    """Read which nodes a verb on this node or workflow would cancel."""
    find = _CANCELS.get(verb)
    if find is None:
        return AffectedNodes()
    if isinstance(target, Workflow):
        target = target.root
    return find(target)


@dataclass(slots=True)
class Continuation:
    """What continues after a verb: nodes that start, and nodes that will be complete."""

    started: AffectedNodes = field(default_factory=AffectedNodes)
    completed: AffectedNodes = field(default_factory=AffectedNodes)

    def add(self, other: Consequences) -> None:
        """Add what follows from the end of one node."""
        self.started.take(other.started)
        self.completed.take(other.completed)


def continued_nodes(verb: str, target: Node | Workflow) -> Continuation:
    """Read which nodes start, and which will be complete, after a verb on this node."""
    ahead, find = Continuation(), _CONTINUES.get(verb)
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
    """Read which nodes a resume would queue."""
    return _affected(paused_nodes(workflow))


def paused_nodes(workflow: Workflow) -> NodeQuerySet:
    """Give the nodes of a workflow that are paused with it, in the order of their ids."""
    nodes = Node.objects.using(workflow.alias).unfinished_in(workflow.pk)
    return nodes.filter(status=Status.PAUSED).order_by("pk")


def _affected(rows: NodeQuerySet) -> AffectedNodes:
    affected = AffectedNodes()
    affected.take(list(rows.without_payload()[: MOST + 1]))
    return affected


def _whole_workflow(root: Node) -> AffectedNodes:
    nodes = Node.objects.using(root.alias).unfinished_in(root.workflow_id)
    return _affected(nodes.order_by("pk"))


def _below(node: Node) -> AffectedNodes:
    affected = AffectedNodes()
    _add_below([node], affected)
    return affected


def _below_but_rescues(node: Node) -> AffectedNodes:
    """Read what a retry cancels: children of earlier attempts and what is below them."""
    affected = AffectedNodes()
    _add_below([node], affected, spare_rescues=True)
    return affected


def _canceled(node: Node) -> AffectedNodes:
    """Read what a cancel cancels besides: what is below the node, and what needs its value."""
    affected = _below(node)
    affected.join(_without_value(node))
    return affected


def _behind(node: Node) -> AffectedNodes:
    """Read what a shutdown cancels: what waited for the node, or needs its value, as subtrees."""
    siblings = list(canceled_by_shutdown(node).without_payload()[: MOST + 1])
    affected = AffectedNodes()
    affected.take(siblings)
    _add_below(siblings, affected)
    affected.join(_without_value(node, [row.pk for row in siblings]))
    return affected


def _without_value(node: Node, siblings: Sequence[UUID] = ()) -> AffectedNodes:
    """Read what is canceled because it needs the node's value, as subtrees, in order."""
    affected = AffectedNodes()
    if node.is_root:
        return affected
    places = {pk: i for i, pk in enumerate(canceled_by_loss(node, siblings))}
    rows = Node.objects.using(node.alias).filter(pk__in=list(places)).unfinished()
    tops = sorted(rows.without_payload(), key=lambda row: places[row.pk])
    affected.take(tops)
    _add_below(tops, affected)
    return affected


def _add_below(
    parents: Sequence[Node], affected: AffectedNodes, *, spare_rescues: bool = False
) -> None:
    """Add what is unfinished below these nodes: the levels that a cancel goes through."""
    if not parents:
        return
    ids, using = [node.pk for node in parents[:MOST]], parents[0].alias
    levels = levels_below(ids, using, spare_rescues=spare_rescues, part=WHOLE, most=MOST)
    for depth, children in levels:
        if depth > LEVELS:
            affected.is_more = True
        if affected.is_more:
            return
        open_children = children.unfinished().without_payload().order_by("parent", "seq")
        affected.take(list(open_children[: MOST + 1]))


_CANCELS: Mapping[str, Callable[[Node], AffectedNodes]] = {
    "retry": _below_but_rescues,
    "edit_arguments": _below_but_rescues,
    "shutdown": _behind,
    "cancel": _canceled,
    "reset": _below,
    "cancel_workflow": _whole_workflow,
}
_CONTINUES: Mapping[str, Callable[[Node], Consequences]] = {
    "resolve": following_resolve,
    "shutdown": following_shutdown,
    "cancel": following_cancel,
    "reset": following_reset,
}

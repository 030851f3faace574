"""What needs the value of a node that will have none, to the end of its canvas.

A node that takes the value as input is canceled, and then what takes that one's. A container
that loses its value or its input is not canceled by that: what else is in it goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from uuid import UUID

from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.engine.order.cancel import Top, cancel_trees
from backbeat_celery.engine.order.finish import lock_node
from backbeat_celery.models import Node
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.states import Container, Input, Status, Yields

FEW = 500
"""Siblings that are read at once."""

PLACE = (
    *("id", "workflow_id", "parent_id", "seq", "mode", "status", "name", "task"),
    *("container", "input", "yields"),
)


def lock_canvas(node: Node) -> None:
    """Lock the nodes above one, as far up as its value is part of theirs, from the top down."""
    for above in reversed(list(_canvas_above(node))):
        lock_node(above, node.alias)


def cancel_dependents(
    node: Node, *, actor: str = "", reason: str = "", even_immutable: bool = False
) -> AfterCommit:
    """Cancel what needs the value of a node, in the caller's transaction.

    `even_immutable`: also what would go on without it behind the node, whole.
    """
    tops = list(dependents(node, even_immutable=even_immutable))
    return cancel_trees(tops, node.alias, actor=actor, reason=reason)


def cancel_with_dependents(node: Node, *, reason: str) -> AfterCommit:
    """Cancel what needs the value of a node, then the node, in the caller's transaction."""
    assert node.parent_id is not None  # a root is no part of a canvas
    after_commit = cancel_dependents(node, reason=reason)
    top = (node.pk, node.parent_id)
    after_commit += cancel_trees([top], node.alias, actor="", reason=reason)
    return after_commit


def dependents(
    node: Node, *, even_immutable: bool = False, gone: Collection[UUID] = ()
) -> Iterator[Top]:
    """Give the nodes that cannot run without the value of a node, from the lowest up.

    `gone` are siblings that are canceled before these are.
    """
    row = node
    while row.counts and row.parent_id is not None:
        parent = _row(row.parent_id, node.alias)
        is_lost = True
        # Only in these is a value handed on to the next one.
        is_line = parent.container in {Container.CHAIN, Container.CHORD}
        for sibling in _behind(row) if is_line else ():
            if sibling.pk in gone or sibling.status == Status.CANCELED:
                loss = _Loss([], True, True)
            elif even_immutable:
                loss = _Loss([(sibling.pk, parent.pk)], True, True)
            elif sibling.input == Input.PREVIOUS:
                loss = _loss(sibling)
            else:
                loss = _Loss([], False, False)
            yield from loss.tops
            is_lost = loss.is_lost
            if not is_lost:
                break  # a follower that takes nothing goes on
        if parent.yields == Yields.OWN or (parent.yields == Yields.LAST and not is_lost):
            return
        row = parent


@dataclass(frozen=True, slots=True)
class _Loss:
    """What becomes of a node whose input will never come."""

    tops: list[Top]
    """Nodes that are canceled with what is below them."""
    is_lost: bool
    """Whether it has no value either."""
    is_whole: bool
    """Whether nothing of it is left."""


def _loss(node: Node) -> _Loss:
    assert node.parent_id is not None
    own = [(node.pk, node.parent_id)]
    if node.is_finished or not node.is_container:
        return _Loss([] if node.is_finished else own, True, True)
    tops: list[Top] = []
    is_lost = is_whole = True
    any_lost = False
    for child in _children(node):
        takes = child.input == Input.PARENT or (child.input == Input.PREVIOUS and is_lost)
        loss = _loss(child) if takes else _Loss([], False, False)
        tops += loss.tops
        is_lost, is_whole = loss.is_lost, is_whole and loss.is_whole
        any_lost = any_lost or is_lost
    if node.yields == Yields.LIST:
        is_lost = any_lost
    return _Loss(own if is_whole else tops, is_lost, is_whole)


def _canvas_above(node: Node) -> Iterator[UUID]:
    row = node
    while row.parent_id is not None:
        row = _row(row.parent_id, node.alias)
        if row.yields == Yields.OWN:
            return
        yield row.pk


def _row(pk: UUID, using: str) -> Node:
    return Node.objects.using(using).only(*PLACE).get(pk=pk)


def _behind(node: Node) -> Iterator[Node]:
    """Siblings behind a node that count, in order."""
    assert node.parent_id is not None
    siblings = Node.objects.using(node.alias).children_of(node.parent_id)
    return _in_order(siblings.counting(), node.seq)


def _children(parent: Node) -> Iterator[Node]:
    children = Node.objects.using(parent.alias).children_of(parent.pk)
    return _in_order(children.counting(), -1)


def _in_order(rows: NodeQuerySet, last: int) -> Iterator[Node]:
    while some := list(rows.filter(seq__gt=last).only(*PLACE).order_by("seq")[:FEW]):
        yield from some
        last = some[-1].seq

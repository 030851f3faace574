"""What follows from the end of a node: what starts, what completes, what a shutdown cancels.

The verbs, their previews and `explain()` use these reads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef

from backbeat_celery.engine.order.dependents import dependents
from backbeat_celery.engine.order.links import has_open_link
from backbeat_celery.engine.order.turns import first_turn, next_turn
from backbeat_celery.engine.order.waiting_graph import linked_signals, siblings_ahead
from backbeat_celery.models import Link, Node, Workflow
from backbeat_celery.models.lineage import lineage
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.states import COUNTING, Status

HIGHEST = 50
"""Levels above a node, and nodes at the other ends of links, that are read."""

MOST = 1000
"""Nodes canceled with it that are read."""


def canceled_by_shutdown(node: Node) -> NodeQuerySet:
    """Unfinished siblings that a shutdown of this failed node cancels, in their order.

    A blocking node holds all siblings behind it. Another node that counts holds the first barrier
    behind it, and so all siblings behind that barrier.
    """
    assert node.parent_id is not None  # roots cannot be shut down
    siblings = Node.objects.using(node.alias).children_of(node.parent_id).order_by("seq")
    behind = siblings.filter(seq__gt=node.seq).unfinished()
    if node.is_blocking:
        return behind
    barrier = None
    if node.mode in COUNTING:
        barrier = behind.filter(barrier=True).values_list("seq", flat=True).first()
    return behind.none() if barrier is None else behind.filter(seq__gte=barrier)


def canceled_by_loss(node: Node, siblings: Collection[UUID] = ()) -> list[UUID]:
    """The topmost nodes that are canceled because they need the value of a node that has none.

    `siblings` are canceled before them, by a shutdown. At most `MOST` are given.
    """
    return [pk for pk, _parent in islice(dependents(node, gone=siblings), MOST)]


@dataclass(slots=True)
class Consequences:
    """What starts and what completes once a node is finished."""

    started: list[Node] = field(default_factory=list)
    completed: list[Node] = field(default_factory=list)
    """Ancestors, from the lowest up; behind a link, the nodes that wait there."""
    ended: list[Node] = field(default_factory=list)
    """All nodes that end: nodes of other workflows may be linked to them."""


def following_cancel(node: Node) -> Consequences:
    """Read what follows when a node is canceled with its subtree."""
    return _climb(node, Consequences(), without=None, gone=canceled_by_loss(node))


def following_resolve(node: Node) -> Consequences:
    """Read what follows when a failed node is resolved: its own pending children start first."""
    return _settled(node, without=None)


def following_shutdown(node: Node) -> Consequences:
    """Read what follows when a failed node is shut down."""
    siblings = canceled_by_shutdown(node)
    ids = list(siblings.values_list("pk", flat=True)[:MOST])
    return _settled(node, siblings, [*ids, *canceled_by_loss(node, ids)])


def following_reset(node: Node) -> Consequences:
    """Read what follows when everything below a node is canceled."""
    if node.status != Status.WAITING or node.is_root or has_open_link(node):
        return Consequences()
    return _climb(node, Consequences(completed=[node]), without=None)


def _settled(
    node: Node, without: NodeQuerySet | None, gone: Collection[UUID] = ()
) -> Consequences:
    own = first_turn(node)
    if _waits_itself(node):
        return Consequences(started=own)
    result = _climb(node, Consequences(), without, gone)
    result.started = own + result.started
    return result


def _climb(
    node: Node,
    result: Consequences,
    without: NodeQuerySet | None,
    gone: Collection[UUID] = (),
) -> Consequences:
    """Go up to the first ancestor that starts something or still waits.

    `without` are siblings, and `gone` nodes anywhere, that are canceled with this one.
    """
    result.ended = [node, *(without.without_payload()[:HIGHEST] if without is not None else ())]
    for child, parent in _levels_above(node, gone):
        if parent.status != Status.WAITING or not child.counts:
            break
        if without is None and child.has_ready_behind and not child.is_blocked:
            result.started = next_turn(parent, child, gone)
        if result.started or _still_waits(parent, child, without):
            break
        result.completed.append(parent)
        result.ended.append(parent)
        without = None
    return result


def _levels_above(node: Node, gone: Collection[UUID]) -> Iterator[tuple[Any, Any]]:
    """Give a node and its parent, then that one and its parent, and so on.

    All are read in two statements, with what their places in their lines need.
    """
    ids = lineage([node.pk], node.alias, levels=HIGHEST + 1)
    others = Node.objects.awaited_by(OuterRef("parent_id")).exclude(pk=OuterRef("pk"))
    behind = Node.objects.children_of(OuterRef("parent_id")).filter(
        seq__gt=OuterRef("seq"), status=Status.READY
    )
    if gone:
        others, behind = others.exclude(pk__in=gone), behind.exclude(pk__in=gone)
    ahead = siblings_ahead(OuterRef("parent_id"), OuterRef("seq"), barrier=False)
    links = Link.objects.filter(source=OuterRef("parent_id"), settled=False)
    rows = Node.objects.using(node.alias).without_payload().filter(pk__in=list(ids))
    known: dict[UUID | None, Any] = rows.annotate(
        has_awaited_siblings=Exists(others),
        has_ready_behind=Exists(behind),
        is_blocked=Exists(ahead),
        parent_may_have_links=Exists(links),
    ).in_bulk()
    child = known.get(node.pk)
    while child is not None and (parent := known.get(child.parent_id)) is not None:
        yield child, parent
        child = parent


def following_links(ended: list[Node]) -> list[Consequences]:
    """Read what follows in other workflows, whose nodes wait by links for signals that end."""
    found: list[Consequences] = []
    known = {node.pk for node in ended}
    signals = [node for node in ended if node.parent_id == node.workflow_id]
    while signals and len(found) < HIGHEST:
        rows = Node.objects.using(signals[0].alias).without_payload()
        targets = [node.pk for node in signals]
        links = Link.objects.using(signals[0].alias).filter(target__in=targets)
        sources = rows.filter(pk__in=links.values("source"), status=Status.WAITING).order_by("pk")
        signals = []
        for source in sources.exclude(pk__in=known)[:HIGHEST]:
            if _waits_beside(source, known):
                continue
            found.append(_climb(source, Consequences(completed=[source]), without=None))
            fresh = [node for node in found[-1].ended if node.pk not in known]
            known |= {node.pk for node in fresh}
            signals += [node for node in fresh if node.parent_id == node.workflow_id]
    return found


def _waits_beside(source: Node, ended: set[UUID]) -> bool:
    """Tell whether a node waits for a child, or by a link for a signal that is not in `ended`."""
    signals = linked_signals(source.pk, source.alias).exclude(pk__in=ended)
    return signals.exists() or Node.objects.using(source.alias).awaited_by(source.pk).exists()


def _still_waits(parent: Node, child: Any, without: NodeQuerySet | None) -> bool:
    """Tell whether a parent waits for something besides a child, and the siblings `without`."""
    if without is None:
        awaits = child.has_awaited_siblings
    else:
        awaited = Node.objects.using(parent.alias).awaited_by(parent.pk).exclude(pk=child.pk)
        awaits = awaited.exclude(pk__in=without.order_by().values("pk")).exists()
    if awaits or (child.parent_may_have_links and has_open_link(parent)):
        return True
    workflows = Workflow.objects.using(parent.alias).filter(pk=parent.workflow_id)
    return parent.is_root and workflows.filter(closed_at=None).exists()


def _waits_itself(node: Node) -> bool:
    """Tell whether a failed node, once settled, waits for its own children or links."""
    awaited = Node.objects.using(node.alias).awaited_by(node.pk)
    return bool(awaited.first_awaited()) or has_open_link(node)

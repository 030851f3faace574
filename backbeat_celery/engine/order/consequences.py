"""What follows from the end of a node: whom it lets go on, and whom a shutdown gives up.

The verbs act by these reads, and previews and explanations tell by them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import Exists, OuterRef

from backbeat_celery.engine.order.links import has_open_link
from backbeat_celery.engine.order.turns import first_turn, next_turn
from backbeat_celery.models import Link, Node, Workflow
from backbeat_celery.models.lineage import lineage
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.states import COUNTING, Status

HIGHEST = 50
"""Ancestors that are looked at for those whom a node holds up."""


def given_up_with(node: Node) -> NodeQuerySet:
    """Unfinished siblings that a shutdown of this failed node cancels, in their order.

    Of a blocking node that is all who stand behind it. Another one is waited for by the
    barriers behind it alone, and all who stand behind the first of those wait for that.
    """
    assert node.parent_id is not None  # a root is never shut down
    siblings = Node.objects.using(node.alias).children_of(node.parent_id).order_by("seq")
    behind = siblings.filter(seq__gt=node.seq).unfinished()
    if node.is_blocking:
        return behind
    barrier = None
    if node.mode in COUNTING:
        barrier = behind.filter(barrier=True).values_list("seq", flat=True).first()
    return behind.none() if barrier is None else behind.filter(seq__gte=barrier)


@dataclass(slots=True)
class Following:
    """What begins, and what is complete, once a node is done or counts as nothing."""

    started: list[Node] = field(default_factory=list)
    completed: list[Node] = field(default_factory=list)
    """Its ancestors, from the lowest up; behind a link, the nodes that wait there."""
    ended: list[Node] = field(default_factory=list)
    """All that end thereby: nodes of other workflows may be linked to them."""


def following_cancel(node: Node) -> Following:
    """Tell what follows when a node is canceled, with all that is below it."""
    return _climbed(node, Following(), without=None)


def following_resolve(node: Node) -> Following:
    """Tell what follows when a failed node is resolved: first its own children have their turn."""
    return _settled(node, without=None)


def following_shutdown(node: Node) -> Following:
    """Tell what follows when a failed node is shut down."""
    return _settled(node, without=given_up_with(node))


def following_reset(node: Node) -> Following:
    """Tell what follows when all that is below a node is canceled."""
    if node.status != Status.WAITING or node.is_root or has_open_link(node):
        return Following()
    return _climbed(node, Following(completed=[node]), without=None)


def _settled(node: Node, without: NodeQuerySet | None) -> Following:
    own = first_turn(node)
    if _is_held(node):
        return Following(started=own)
    told = _climbed(node, Following(), without)
    told.started = own + told.started
    return told


def _climbed(node: Node, told: Following, without: NodeQuerySet | None) -> Following:
    """Go up to the first ancestor that starts something or still waits."""
    told.ended = [node, *(without.without_payload()[:HIGHEST] if without is not None else ())]
    parents = _parents_of_last(node)
    for _ in range(HIGHEST):
        if without is None and (parent := parents.get(node.pk)) is not None:
            told.completed.append(parent)
            told.ended.append(parent)
            node = parent
            continue
        parent = _above(node)
        if parent is None or parent.status != Status.WAITING or not _counts(node):
            break
        if without is None:
            told.started = [] if _is_blocked(parent, node) else next_turn(parent, node)
        if told.started or _still_waits(parent, node, without):
            break
        told.completed.append(parent)
        told.ended.append(parent)
        node, without = parent, None
    return told


def _parents_of_last(node: Node) -> dict[UUID, Node]:
    """The parents that complete with a child and start nothing, by that child; roots left out.

    Of a node and those above it, all in a few statements: for the others each level takes some.
    """
    rows = Node.objects.using(node.alias)
    above = lineage([node.pk], node.alias, levels=HIGHEST + 1)
    awaited = Node.objects.awaited_by(OuterRef("parent_id")).exclude(pk=OuterRef("pk"))
    behind = Node.objects.children_of(OuterRef("parent_id")).filter(
        seq__gt=OuterRef("seq"), status=Status.READY
    )
    links = Link.objects.filter(source=OuterRef("parent_id"), settled=False)
    waited_for = rows.counting().filter(pk__in=list(above), parent__status=Status.WAITING)
    last = waited_for.filter(
        ~Exists(awaited), ~Exists(behind), ~Exists(links), parent__parent__isnull=False
    )
    found = dict(last.values_list("pk", "parent_id"))
    parents = rows.without_payload().in_bulk(found.values())
    return {pk: parents[above] for pk, above in found.items() if above in parents}


def following_links(ended: list[Node]) -> list[Following]:
    """Tell what follows in other workflows, where nodes wait by links for signals that end."""
    told: list[Following] = []
    known = {node.pk for node in ended}
    signals = [node for node in ended if node.parent_id == node.workflow_id]
    while signals and len(told) < HIGHEST:
        rows = Node.objects.using(signals[0].alias).without_payload()
        targets = [node.pk for node in signals]
        links = Link.objects.using(signals[0].alias).filter(target__in=targets)
        sources = rows.filter(pk__in=links.values("source"), status=Status.WAITING).order_by("pk")
        signals = []
        for source in sources.exclude(pk__in=known)[:HIGHEST]:
            if _waits_beside(source, known):
                continue
            told.append(_climbed(source, Following(completed=[source]), without=None))
            fresh = [node for node in told[-1].ended if node.pk not in known]
            known |= {node.pk for node in fresh}
            signals += [node for node in fresh if node.parent_id == node.workflow_id]
    return told


def _waits_beside(source: Node, ended: set[UUID]) -> bool:
    """Whether a node waits for a child, or by a link for a signal that is not among these."""
    links = Link.objects.using(source.alias).filter(source=source.pk, settled=False)
    targets = Node.objects.using(source.alias).filter(pk__in=links.values("target"))
    return (
        targets.unfinished().exclude(pk__in=ended).exists()
        or Node.objects.using(source.alias).awaited_by(source.pk).exists()
    )


def _above(node: Node) -> Node | None:
    rows = Node.objects.using(node.alias).without_payload()
    return rows.filter(pk=node.parent_id).first() if node.parent_id else None


def _counts(node: Node) -> bool:
    return node.mode in COUNTING


def _is_blocked(parent: Node, node: Node) -> bool:
    """Whether an earlier child holds back what is behind this one."""
    awaited = Node.objects.using(parent.alias).awaited_by(parent.pk)
    return awaited.blocking().filter(seq__lt=node.seq).exists()


def _still_waits(parent: Node, node: Node, without: NodeQuerySet | None) -> bool:
    awaited = Node.objects.using(parent.alias).awaited_by(parent.pk).exclude(pk=node.pk)
    if without is not None:
        awaited = awaited.exclude(pk__in=without.order_by().values("pk"))
    if awaited.exists() or has_open_link(parent):
        return True
    workflows = Workflow.objects.using(parent.alias).filter(pk=parent.workflow_id)
    return parent.is_root and workflows.filter(closed_at=None).exists()


def _is_held(node: Node) -> bool:
    """Whether a failed node waits for something of its own once it is settled."""
    awaited = Node.objects.using(node.alias).awaited_by(node.pk)
    return bool(awaited.first_awaited()) or has_open_link(node)

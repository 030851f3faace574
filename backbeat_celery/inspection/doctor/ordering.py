"""Invariant 3 and the places of children: turns come in order, stages and counters fit."""

from __future__ import annotations

from django.db.models import (
    Case,
    DateTimeField,
    Exists,
    F,
    IntegerField,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
    Window,
)
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast, Coalesce, Lag

from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.inspection.doctor.check import Check, Checks, Slice
from backbeat_celery.models import Node
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.states import Mode, Status

HAD_NO_TURN = (Status.PENDING, Status.READY, Status.CANCELED)
STARTED = "It cannot be undone: cancel() the one that started too early, or let both finish."
PLACE = "Places cannot be changed; only the order of what is still to come may be wrong."


def _ahead() -> NodeQuerySet:
    siblings: NodeQuerySet = Node.objects.awaited_by(OuterRef("parent_id"))
    return siblings.filter(seq__lt=OuterRef("seq"))


def _had_turn(part: Slice) -> NodeQuerySet:
    # A rescue starts at once: its place in the line means nothing.
    return part.families.exclude(status__in=HAD_NO_TURN).filter(rescue=False)


def early_turns(part: Slice) -> QuerySet[Node]:
    return _had_turn(part).filter(Exists(_ahead().blocking()))


def early_barriers(part: Slice) -> QuerySet[Node]:
    return _had_turn(part).filter(Exists(_ahead().counting()), barrier=True)


def overlaps(part: Slice) -> QuerySet[Node]:
    blocking = Case(
        When(mode=Mode.BLOCKING, then=F("finished_at")),
        default=Value(None),
        output_field=DateTimeField(),
    )
    # The blocking one before is enough: it started after those before it, or is found itself.
    before = _lag(blocking)
    rows = part.families.filter(mode=Mode.BLOCKING).exclude(status=Status.CANCELED)
    return rows.annotate(before=before).filter(before__gt=F("started_at"))


def _lag(expression: Combinable) -> Window:
    return Window(Lag(expression), partition_by=F("parent_id"), order_by=F("seq").asc())


def odd_stages(part: Slice) -> QuerySet[Node]:
    """Compare each child with the one before it.

    Purged signals leave gaps in the root's line: each of them took one place, or two if it was
    a barrier. Below a node that is finished nothing gets a place any more.
    """
    step = Case(When(mode=Mode.BLOCKING, then=Value(1)), default=Value(0))
    own = Case(When(barrier=True, then=Value(1)), default=Value(0))
    seq, stage = Cast("seq", IntegerField()), Cast("stage", IntegerField())
    is_signal = Q(parent_id=F("workflow_id"))
    rows = part.families.filter(parent__finished_at=None).annotate(
        surplus=stage - own - Coalesce(_lag(stage + step), Value(0)),
        room=Case(
            When(is_signal, then=2 * (seq - 1 - Coalesce(_lag(seq), Value(-1)))),
            default=Value(0),
            output_field=IntegerField(),
        ),
    )
    return rows.filter(Q(surplus__lt=0) | Q(surplus__gt=F("room")))


def _with_last_child(rows: NodeQuerySet) -> NodeQuerySet:
    last = Node.objects.children_of(OuterRef("pk")).order_by("-seq")
    step = Case(When(mode=Mode.BLOCKING, then=Value(1)), default=Value(0))
    after = last.annotate(after=Cast("stage", IntegerField()) + step)
    annotated: NodeQuerySet = rows.annotate(
        last_seq=Subquery(last.values("seq")[:1]),
        stage_after=Subquery(after.values("after")[:1]),
    )
    return annotated


def odd_counters(part: Slice) -> QuerySet[Node]:
    rows = _with_last_child(part.nodes.unfinished())
    # The last signals may have been purged: the root's counters then stand higher.
    wrong = Q(next_stage__lt=F("stage_after")) | Q(
        next_stage__gt=F("stage_after"), parent__isnull=False
    )
    return rows.filter(Q(next_seq__lte=F("last_seq")) | wrong)


def mend_counters(node: Node) -> None:
    """Let the next child get the place behind the last one."""
    rows = Node.objects.using(node.alias).filter(pk=node.pk)
    seen = vars(_with_last_child(rows).get())
    stage = seen["stage_after"]
    rows.update(
        next_seq=max(node.next_seq, seen["last_seq"] + 1),
        next_stage=max(node.next_stage, stage) if node.is_root else stage,
    )


def forgotten_barriers(part: Slice) -> QuerySet[Node]:
    held = part.families.filter(barrier=True, status__in=(Status.READY, Status.PENDING))
    noted = Q(parent__next_barrier=None) | Q(parent__next_barrier__gt=F("seq"))
    return held.filter(noted, parent__finished_at=None)


def note_barrier(node: Node) -> AfterCommit:
    """Let the parent look at this barrier again."""
    assert node.parent_id is not None
    rows = Node.objects.using(node.alias).filter(pk=node.parent_id)
    rows.filter(Q(next_barrier=None) | Q(next_barrier__gt=node.seq)).update(next_barrier=node.seq)
    return AfterCommit(maybe_complete=[node.parent_id])


CHECKS: Checks = (
    Check("turn", 3, "had its turn before a blocking sibling was finished", early_turns, STARTED),
    Check(
        "barrier", 3, "is a barrier that did not wait for its siblings", early_barriers, STARTED
    ),
    Check("overlap", 3, "started before a blocking sibling was finished", overlaps, STARTED),
    Check("stage", 3, "has a stage that does not fit the sibling before it", odd_stages, PLACE),
    Check(
        "counters", 3, "would give its next child a wrong place", odd_counters, "", mend_counters
    ),
    Check(
        "next-barrier",
        5,
        "is a barrier that its parent has forgotten",
        forgotten_barriers,
        "",
        note_barrier,
    ),
)

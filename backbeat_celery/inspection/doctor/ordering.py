"""Invariant 3: siblings run in order, and their stages and their parents' counters match."""

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
from backbeat_celery.engine.order.waiting_graph import siblings_ahead
from backbeat_celery.inspection.doctor.check import Check, Checks, Slice
from backbeat_celery.models import Node
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.states import Mode, Status

WITHOUT_A_TURN = (Status.PENDING, Status.READY, Status.CANCELED)
STARTED = "It cannot be undone: cancel() the one that started too early, or let both finish."
PLACE = "Places cannot be changed. Children that have not run yet may run in the wrong order."


def _has_siblings_ahead(*, barrier: bool) -> Exists:
    return Exists(siblings_ahead(OuterRef("parent_id"), OuterRef("seq"), barrier=barrier))


def _queued(part: Slice) -> NodeQuerySet:
    # A rescue starts at once, whatever its place.
    return part.families.exclude(status__in=WITHOUT_A_TURN).filter(rescue=False)


def queued_too_early(part: Slice) -> QuerySet[Node]:
    return _queued(part).filter(_has_siblings_ahead(barrier=False))


def barriers_queued_too_early(part: Slice) -> QuerySet[Node]:
    return _queued(part).filter(_has_siblings_ahead(barrier=True), barrier=True)


def overlapping_siblings(part: Slice) -> QuerySet[Node]:
    blocking = Case(
        When(mode=Mode.BLOCKING, then=F("finished_at")),
        default=Value(None),
        output_field=DateTimeField(),
    )
    # The previous blocking sibling is enough: it started after those before it, or is found too.
    before = _lag(blocking)
    rows = part.families.filter(mode=Mode.BLOCKING).exclude(status=Status.CANCELED)
    return rows.annotate(before=before).filter(before__gt=F("started_at"))


def _lag(expression: Combinable) -> Window:
    return Window(Lag(expression), partition_by=F("parent_id"), order_by=F("seq").asc())


def inconsistent_stages(part: Slice) -> QuerySet[Node]:
    """Compare each child with the one before it.

    Purged signals leave gaps among the root's children: each took one place, or two if it was a
    barrier. A finished node gets no more children.
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


def inconsistent_counters(part: Slice) -> QuerySet[Node]:
    rows = _with_last_child(part.nodes.unfinished())
    # The last signals may have been purged: the root's counters then stand higher.
    wrong = Q(next_stage__lt=F("stage_after")) | Q(
        next_stage__gt=F("stage_after"), parent__isnull=False
    )
    return rows.filter(Q(next_seq__lte=F("last_seq")) | wrong)


def repair_counters(node: Node) -> None:
    """Set the counters so that the next child gets the place after the last one."""
    rows = Node.objects.using(node.alias).filter(pk=node.pk)
    seen = vars(_with_last_child(rows).get())
    stage = seen["stage_after"]
    rows.update(
        next_seq=max(node.next_seq, seen["last_seq"] + 1),
        next_stage=max(node.next_stage, stage) if node.is_root else stage,
    )


def unnoted_barriers(part: Slice) -> QuerySet[Node]:
    held = part.families.filter(barrier=True, status__in=(Status.READY, Status.PENDING))
    noted = Q(parent__next_barrier=None) | Q(parent__next_barrier__gt=F("seq"))
    return held.filter(noted, parent__finished_at=None)


def repair_next_barrier(node: Node) -> AfterCommit:
    """Make the parent check this barrier again."""
    assert node.parent_id is not None
    rows = Node.objects.using(node.alias).filter(pk=node.parent_id)
    rows.filter(Q(next_barrier=None) | Q(next_barrier__gt=node.seq)).update(next_barrier=node.seq)
    return AfterCommit(maybe_complete=[node.parent_id])


CHECKS: Checks = (
    Check(
        "queued-too-early",
        invariant=3,
        problem="was queued before an earlier blocking sibling was finished",
        find=queued_too_early,
        advice=STARTED,
    ),
    Check(
        "barrier-too-early",
        invariant=3,
        problem="is a barrier that did not wait for its siblings",
        find=barriers_queued_too_early,
        advice=STARTED,
    ),
    Check(
        "overlapping-siblings",
        invariant=3,
        problem="started before a blocking sibling was finished",
        find=overlapping_siblings,
        advice=STARTED,
    ),
    Check(
        "stage-mismatch",
        invariant=3,
        problem="has a stage that does not fit the sibling before it",
        find=inconsistent_stages,
        advice=PLACE,
    ),
    Check(
        "counter-mismatch",
        invariant=3,
        problem="would give its next child a wrong place",
        find=inconsistent_counters,
        repair=repair_counters,
    ),
    Check(
        "missing-next-barrier",
        invariant=5,
        problem="is a barrier that its parent's next_barrier does not name",
        find=unnoted_barriers,
        repair=repair_next_barrier,
    ),
)

"""Invariant 9: in a canvas, what needs a value has a node that gives it, or is canceled."""

from __future__ import annotations

from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery
from django.db.models.expressions import Combinable

from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.engine.order.dependents import cancel_with_dependents
from backbeat_celery.engine.order.expiry import MAY_EXPIRE
from backbeat_celery.inspection.doctor.check import Check, Checks, Slice
from backbeat_celery.models import Attempt, Node
from backbeat_celery.states import Input, Outcome, Status

BY_HAND = "The table was changed by hand: cancel() the whole canvas, and signal it again."
DEEPEST = 4
"""Levels of containers, each the first step of the one above, whose common input is followed."""

REASON = "what it needs was canceled"


def containers_with_attempts(part: Slice) -> QuerySet[Node]:
    attempts = Attempt.objects.filter(node_id=OuterRef("pk"))
    containers = part.nodes.exclude(container="")
    return containers.filter(~Q(task="") | Q(attempt__gt=0) | Q(Exists(attempts)))


def without_source(part: Slice) -> QuerySet[Node]:
    before = Node.objects.steps_before(OuterRef("parent_id"), OuterRef("seq"))
    takes_previous = Q(~Exists(before), input=Input.PREVIOUS)
    takes_nothing = Q(input=Input.PARENT, parent__input=Input.NONE) & ~Q(parent__container="")
    # A purge that was stopped leaves finished trees without some of their leaves.
    return part.families.unfinished().filter(takes_previous | takes_nothing)


def _status_before(parent: str, seq: str) -> Combinable:
    rows = Node.objects.steps_before(OuterRef(parent), OuterRef(seq))
    return Subquery(rows.values("status")[:1])


def complete_without_value(part: Slice) -> QuerySet[Node]:
    # A container goes on with what is in it that needs nothing.
    ran = part.families.filter(
        status=Status.COMPLETE, outcome=Outcome.SUCCEEDED, input=Input.PREVIOUS, container=""
    )
    return ran.annotate(before=_status_before("parent_id", "seq")).filter(before=Status.CANCELED)


def open_without_value(part: Slice) -> QuerySet[Node]:
    rows = part.families.unfinished().filter(
        container="", input__in=[Input.PREVIOUS, Input.PARENT]
    )
    lost, above, through = Q(pk__in=[]), "", Q()
    for level in range(DEEPEST):
        before = f"before_{level}"
        rows = rows.annotate(**{before: _status_before(f"{above}parent_id", f"{above}seq")})
        lost |= through & Q(**{f"{above}input": Input.PREVIOUS, before: Status.CANCELED})
        through &= Q(**{f"{above}input": Input.PARENT})
        above += "parent__"
        through &= ~Q(**{f"{above}container": ""})
    return rows.filter(lost)


def repair_open_without_value(node: Node) -> AfterCommit:
    """Cancel it with what needs its own value, as was due when what it needs was canceled."""
    return cancel_with_dependents(node, reason=REASON)


def begun_with_expiry(part: Slice) -> QuerySet[Node]:
    return part.nodes.filter(expires_at__isnull=False).exclude(MAY_EXPIRE)


def repair_expiry(node: Node) -> None:
    """Clear the time: the node has begun, and expires no more."""
    Node.objects.using(node.alias).filter(pk=node.pk).update(expires_at=None)


CHECKS: Checks = (
    Check(
        "container-with-attempt",
        invariant=9,
        problem="is a chain, a group or a chord, which calls no handler, but has an attempt",
        find=containers_with_attempts,
        advice=BY_HAND,
    ),
    Check(
        "missing-source",
        invariant=9,
        problem="takes the value of a node that is not there",
        find=without_source,
        advice=BY_HAND,
    ),
    Check(
        "complete-without-value",
        invariant=9,
        problem="is complete, but what gives its first argument was canceled",
        find=complete_without_value,
        advice="Its handler cannot have run with that value: do not trust its result.",
    ),
    Check(
        "open-without-value",
        invariant=9,
        problem="is unfinished, but what gives its first argument was canceled",
        find=open_without_value,
        repair=repair_open_without_value,
    ),
    Check(
        "expiry-mismatch",
        invariant=9,
        problem="has begun or is finished, but still has a time at which it expires",
        find=begun_with_expiry,
        repair=repair_expiry,
    ),
)

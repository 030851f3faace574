"""Invariants 1, 2 and 8: histories follow the transition table and match the attempts."""

from __future__ import annotations

from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery, Window
from django.db.models.functions import Coalesce, Lag

from backbeat_celery.conf import settings
from backbeat_celery.inspection.doctor.check import Check, Checks, Slice
from backbeat_celery.models import Attempt, Node, Transition
from backbeat_celery.runtime import clock
from backbeat_celery.states import CLAIMABLE, INITIAL, TRANSITIONS, AttemptOutcome, Status

CHANGED_BY_HAND = (
    "The table was changed by hand. Nothing depends on this row, but do not trust its node."
)

_MAY_BEGIN_WAITING = Q(parent=None) | ~Q(container="")
"""Roots, and containers whose turn came at once."""

_ALLOWED = Q(pk__in=[])
for _before, _after in TRANSITIONS.items():
    if _after:
        _ALLOWED |= Q(from_status=_before, to_status__in=_after)


def disallowed_transitions(part: Slice) -> QuerySet[Transition]:
    return part.transitions.exclude(_ALLOWED)


def transition_gaps(part: Slice) -> QuerySet[Transition]:
    before = Window(Lag("to_status"), partition_by=F("node_id"), order_by=F("pk").asc())
    rows = part.transitions.annotate(before=before).filter(before__isnull=False)
    return rows.exclude(before=F("from_status"))


def inconsistent_first_transitions(part: Slice) -> QuerySet[Transition]:
    earlier = Transition.objects.filter(node_id=OuterRef("node_id"), pk__lt=OuterRef("pk"))
    waits = Node.objects.filter(_MAY_BEGIN_WAITING, pk=OuterRef("node_id"))
    rows = part.transitions.exclude(from_status__in=INITIAL)
    return rows.exclude(Q(from_status=Status.WAITING) & Exists(waits)).filter(~Exists(earlier))


def inconsistent_statuses(part: Slice) -> QuerySet[Node]:
    latest = Transition.objects.filter(node_id=OuterRef("pk")).order_by("-pk")
    rows = part.nodes.annotate(
        last=Coalesce(Subquery(latest.values("to_status")[:1]), "status"),
        is_new=~Exists(latest.order_by()),
    )
    running = Q(status=Status.RUNNING)
    fits = Q(~running, is_new=False, last=F("status"))
    fits |= Q(running, is_new=False, last__in=CLAIMABLE) | Q(running, is_new=True)
    fits |= Q(is_new=True, status__in=INITIAL)
    fits |= Q(_MAY_BEGIN_WAITING, is_new=True, status=Status.WAITING)
    return rows.exclude(fits)


def accepted_twice(part: Slice) -> QuerySet[Attempt]:
    accepted = part.attempts.filter(outcome=AttemptOutcome.SUCCEEDED)
    others = Attempt.objects.filter(
        node_id=OuterRef("node_id"),
        outcome=AttemptOutcome.SUCCEEDED,
        number__lt=OuterRef("number"),
    )
    return accepted.filter(Exists(others))


def stale_attempts(part: Slice) -> QuerySet[Attempt]:
    beyond = Q(number__gt=F("node__attempt"))
    stale = Q(outcome=AttemptOutcome.SUCCEEDED) & ~Q(number=F("node__attempt"))
    return part.attempts.filter(Q(node__isnull=False), beyond | stale)


def transitions_without_attempt(part: Slice) -> QuerySet[Transition]:
    attempt = Attempt.objects.filter(node_id=OuterRef("node_id"), number=OuterRef("attempt"))
    return part.transitions.filter(~Exists(attempt), from_status=Status.RUNNING)


def attempts_without_transition(part: Slice) -> QuerySet[Attempt]:
    step = Transition.objects.filter(
        node_id=OuterRef("node_id"), from_status=Status.RUNNING, attempt=OuterRef("number")
    )
    return part.attempts.filter(~Exists(step))


def inconsistent_claims(part: Slice) -> QuerySet[Node]:
    running = Q(status=Status.RUNNING)
    return part.nodes.filter(Q(running, claim_id=None) | Q(~running, claim_id__isnull=False))


def repair_claim(node: Node) -> None:
    """Clear the claim of a node that does not run; let the sweeper end an attempt without one."""
    rows = Node.objects.using(node.alias).filter(pk=node.pk)
    if node.status == Status.RUNNING:
        # A claim that no worker holds.
        rows.update(lease_expires_at=clock.now(), claim_id=node.pk)
    else:
        keeps = {} if node.status in CLAIMABLE else {"times_out_at": None}
        rows.update(claim_id=None, lease_expires_at=None, **keeps)


def started_after_cancel(part: Slice) -> QuerySet[Node]:
    attempt = Attempt.objects.filter(
        node_id=OuterRef("pk"), started_at__gt=OuterRef("finished_at")
    )
    canceled = part.nodes.filter(status=Status.CANCELED)
    return canceled.filter(Q(started_at__gt=F("finished_at")) | Exists(attempt))


def running_without_lease(part: Slice) -> QuerySet[Node]:
    local = Q(awaits_completion=False, remote=False)
    return part.nodes.filter(
        local, status=Status.RUNNING, lease_expires_at=None, times_out_at=None
    )


def repair_lease(node: Node) -> None:
    """Give a running attempt a lease; its worker, if there is one, renews it."""
    rows = Node.objects.using(node.alias).filter(pk=node.pk)
    rows.update(lease_expires_at=clock.after(settings.lease))


CHECKS: Checks = (
    Check(
        "disallowed-transition",
        invariant=1,
        problem="is a transition that the table does not allow",
        find=disallowed_transitions,
        advice=CHANGED_BY_HAND,
    ),
    Check(
        "transition-gap",
        invariant=1,
        problem="does not start from the status that the previous transition ended in",
        find=transition_gaps,
        advice=CHANGED_BY_HAND,
    ),
    Check(
        "first-transition",
        invariant=1,
        problem="is the first in its history, but no node starts in that status",
        find=inconsistent_first_transitions,
        advice=CHANGED_BY_HAND,
    ),
    Check(
        "status-mismatch",
        invariant=1,
        problem="has a status that its history does not lead to",
        find=inconsistent_statuses,
        advice="Only the engine writes a status. See its history, then retry() or cancel() it.",
    ),
    Check(
        "accepted-twice",
        invariant=2,
        problem="is a second attempt that was accepted",
        find=accepted_twice,
        advice=CHANGED_BY_HAND,
    ),
    Check(
        "stale-attempt",
        invariant=2,
        problem="does not have its node's attempt number",
        find=stale_attempts,
        advice=CHANGED_BY_HAND,
    ),
    Check(
        "missing-attempt",
        invariant=2,
        problem="ended an attempt that has no row",
        find=transitions_without_attempt,
        advice=CHANGED_BY_HAND,
    ),
    Check(
        "missing-transition",
        invariant=2,
        problem="ended, but its node's history does not say so",
        find=attempts_without_transition,
        advice=CHANGED_BY_HAND,
    ),
    Check(
        "claim-mismatch",
        invariant=2,
        problem="has a claim that does not fit its status",
        find=inconsistent_claims,
        repair=repair_claim,
    ),
    Check(
        "missing-lease",
        invariant=5,
        problem="runs without a lease and without a time limit",
        find=running_without_lease,
        repair=repair_lease,
    ),
    Check(
        "started-after-cancel",
        invariant=8,
        problem="started after it was canceled",
        find=started_after_cancel,
        advice=CHANGED_BY_HAND,
    ),
)

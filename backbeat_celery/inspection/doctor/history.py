"""Invariants 1, 2 and 8: histories are paths through the table, and fit the attempts."""

from __future__ import annotations

from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery, Window
from django.db.models.functions import Coalesce, Lag

from backbeat_celery.conf import settings
from backbeat_celery.inspection.doctor.check import Check, Checks, Slice
from backbeat_celery.models import Attempt, Node, Transition
from backbeat_celery.runtime import clock
from backbeat_celery.states import CLAIMABLE, INITIAL, TRANSITIONS, AttemptOutcome, Status

BY_HAND = "Somebody has written to the table; nothing depends on it, but do not trust this node."

_ALLOWED = Q(pk__in=[])
for _before, _after in TRANSITIONS.items():
    if _after:
        _ALLOWED |= Q(from_status=_before, to_status__in=_after)


def refused_steps(part: Slice) -> QuerySet[Transition]:
    return part.transitions.exclude(_ALLOWED)


def gaps(part: Slice) -> QuerySet[Transition]:
    before = Window(Lag("to_status"), partition_by=F("node_id"), order_by=F("pk").asc())
    rows = part.transitions.annotate(before=before).filter(before__isnull=False)
    return rows.exclude(before=F("from_status"))


def odd_beginnings(part: Slice) -> QuerySet[Transition]:
    earlier = Transition.objects.filter(node_id=OuterRef("node_id"), pk__lt=OuterRef("pk"))
    root = Node.objects.filter(pk=OuterRef("node_id"), parent=None)
    rows = part.transitions.exclude(from_status__in=INITIAL)
    return rows.exclude(Q(from_status=Status.WAITING) & Exists(root)).filter(~Exists(earlier))


def odd_ends(part: Slice) -> QuerySet[Node]:
    latest = Transition.objects.filter(node_id=OuterRef("pk")).order_by("-pk")
    rows = part.nodes.annotate(
        last=Coalesce(Subquery(latest.values("to_status")[:1]), "status"),
        is_new=~Exists(latest.order_by()),
    )
    running = Q(status=Status.RUNNING)
    fits = Q(~running, is_new=False, last=F("status"))
    fits |= Q(running, is_new=False, last__in=CLAIMABLE) | Q(running, is_new=True)
    fits |= Q(is_new=True, status__in=INITIAL)
    fits |= Q(is_new=True, status=Status.WAITING, parent__isnull=True)
    return rows.exclude(fits)


def accepted_twice(part: Slice) -> QuerySet[Attempt]:
    accepted = part.attempts.filter(outcome=AttemptOutcome.SUCCEEDED)
    others = Attempt.objects.filter(
        node_id=OuterRef("node_id"),
        outcome=AttemptOutcome.SUCCEEDED,
        number__lt=OuterRef("number"),
    )
    return accepted.filter(Exists(others))


def not_current(part: Slice) -> QuerySet[Attempt]:
    beyond = Q(number__gt=F("node__attempt"))
    stale = Q(outcome=AttemptOutcome.SUCCEEDED) & ~Q(number=F("node__attempt"))
    return part.attempts.filter(Q(node__isnull=False), beyond | stale)


def steps_without_attempt(part: Slice) -> QuerySet[Transition]:
    attempt = Attempt.objects.filter(node_id=OuterRef("node_id"), number=OuterRef("attempt"))
    return part.transitions.filter(~Exists(attempt), from_status=Status.RUNNING)


def attempts_without_step(part: Slice) -> QuerySet[Attempt]:
    step = Transition.objects.filter(
        node_id=OuterRef("node_id"), from_status=Status.RUNNING, attempt=OuterRef("number")
    )
    return part.attempts.filter(~Exists(step))


def odd_claims(part: Slice) -> QuerySet[Node]:
    running = Q(status=Status.RUNNING)
    return part.nodes.filter(Q(running, claim_id=None) | Q(~running, claim_id__isnull=False))


def mend_claim(node: Node) -> None:
    """Forget the claim of a node that does not run; let the sweeper end an attempt without."""
    rows = Node.objects.using(node.alias).filter(pk=node.pk)
    if node.status == Status.RUNNING:
        # A claim that nobody holds.
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


def endless(part: Slice) -> QuerySet[Node]:
    local = Q(awaits_completion=False, remote=False)
    return part.nodes.filter(
        local, status=Status.RUNNING, lease_expires_at=None, times_out_at=None
    )


def give_lease(node: Node) -> None:
    """Give a running attempt a lease, which its worker renews if there is one."""
    rows = Node.objects.using(node.alias).filter(pk=node.pk)
    rows.update(lease_expires_at=clock.after(settings.lease))


CHECKS: Checks = (
    Check("step", 1, "is a step that the table does not allow", refused_steps, BY_HAND),
    Check("gap", 1, "does not begin where the step before it ended", gaps, BY_HAND),
    Check("beginning", 1, "is first in a history, but no node begins so", odd_beginnings, BY_HAND),
    Check(
        "status",
        1,
        "has a status to which its history does not lead",
        odd_ends,
        "Only backbeat_celery writes a status. See its history, then retry() or cancel() it.",
    ),
    Check("accepted-twice", 2, "is a second attempt that was accepted", accepted_twice, BY_HAND),
    Check("stale-attempt", 2, "is not the one that its node counts", not_current, BY_HAND),
    Check("no-attempt", 2, "ended an attempt that has no row", steps_without_attempt, BY_HAND),
    Check(
        "no-step",
        2,
        "ended, but its node's history does not say so",
        attempts_without_step,
        BY_HAND,
    ),
    Check("claim", 2, "has a claim that does not fit its status", odd_claims, "", mend_claim),
    Check("lease", 5, "runs without a lease and without a time limit", endless, "", give_lease),
    Check(
        "started-after-cancel", 8, "started after it was canceled", started_after_cancel, BY_HAND
    ),
)

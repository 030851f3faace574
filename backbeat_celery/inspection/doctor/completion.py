"""Invariants 4 to 7: nothing ends too early, nothing is stuck, nothing is left behind."""

from __future__ import annotations

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.engine.delivery.outbox import make_due
from backbeat_celery.engine.order.cancel import cancel_orphan
from backbeat_celery.engine.order.finish import lock_node
from backbeat_celery.engine.order.turns import open_ready
from backbeat_celery.engine.record import release_children
from backbeat_celery.engine.repair.republish import requeue
from backbeat_celery.inspection.doctor.check import Check, Checks, Slice
from backbeat_celery.models import Attempt, Link, Node, Workflow
from backbeat_celery.runtime import clock
from backbeat_celery.states import (
    COUNTING,
    FINISHED,
    UNACCEPTED,
    AttemptOutcome,
    Outcome,
    Status,
)

TOO_EARLY = "What is complete stays so: let the rest finish, or cancel() it."
ORPHAN = "Nothing waits for it: cancel() it, or let it finish."


def open_below_complete(part: Slice) -> QuerySet[Node]:
    return part.families.unfinished().counting().filter(parent__status=Status.COMPLETE)


def linked_and_complete(part: Slice) -> QuerySet[Node]:
    return part.nodes.filter(_has_open_link(), status=Status.COMPLETE)


def _has_open_link() -> Exists:
    return Exists(Link.objects.filter(source=OuterRef("pk"), target__finished_at=None))


def waiting_in_vain(part: Slice) -> QuerySet[Node]:
    closed = Workflow.objects.filter(pk=OuterRef("workflow_id"), closed_at__isnull=False)
    waiting = part.nodes.filter(status=Status.WAITING)
    may_end = Q(parent__isnull=False) | Q(Exists(closed))
    idle = ~Exists(Node.objects.awaited_by(OuterRef("pk")))
    return waiting.filter(~_has_open_link(), idle, may_end)


def look_again(node: Node) -> AfterCommit:
    return AfterCommit(maybe_complete=[node.pk])


def held_in_vain(part: Slice) -> QuerySet[Node]:
    ahead = Node.objects.awaited_by(OuterRef("parent_id")).filter(seq__lt=OuterRef("seq"))
    holds = Q(~Exists(ahead.blocking()), barrier=False)
    holds |= Q(~Exists(ahead.counting()), barrier=True)
    accepted = Q(parent__status__in=(Status.WAITING, Status.COMPLETE))
    return part.families.filter(holds, accepted, status=Status.READY)


def open_turn(node: Node) -> AfterCommit:
    """Queue a child whose turn has come."""
    assert node.parent_id is not None
    parent, now = lock_node(node.parent_id, node.alias)
    after_commit = open_ready(parent, node.seq - 1, now)
    after_commit.maybe_complete.append(parent.pk)
    return after_commit


def pending_in_vain(part: Slice) -> QuerySet[Node]:
    return part.families.filter(status=Status.PENDING, parent__status=Status.WAITING)


def release(node: Node) -> AfterCommit:
    """Let the children of an accepted node take their turns."""
    assert node.parent_id is not None
    parent, now = lock_node(node.parent_id, node.alias)
    return release_children(parent, now)


def paused_in_vain(part: Slice) -> QuerySet[Node]:
    going_on = Workflow.objects.filter(pk=OuterRef("workflow_id"), paused_at=None)
    return part.nodes.filter(Exists(going_on), status=Status.PAUSED)


def always_republish(part: Slice) -> QuerySet[Node]:
    return part.nodes.claimable().filter(publish_at=None)


def publish_soon(node: Node) -> None:
    """Let the sweeper publish it at its next pass."""
    make_due([node.pk], node.alias)


def left_behind(part: Slice) -> QuerySet[Node]:
    accepted = Attempt.objects.filter(
        node_id=OuterRef("parent_id"),
        number=OuterRef("spawned_by"),
        outcome=AttemptOutcome.SUCCEEDED,
    )
    spawned = part.families.filter(spawned_by__isnull=False, rescue=False)
    return spawned.exclude(status=Status.CANCELED).filter(~Exists(accepted))


def not_held(part: Slice) -> QuerySet[Node]:
    early = part.families.unfinished().exclude(status=Status.PENDING).filter(rescue=False)
    return early.filter(parent__status__in=UNACCEPTED)


def below_canceled(part: Slice) -> QuerySet[Node]:
    return part.families.unfinished().filter(parent__status=Status.CANCELED)


def odd_finish_times(part: Slice) -> QuerySet[Node]:
    finished = Q(status__in=FINISHED)
    return part.nodes.filter(
        Q(finished, finished_at=None) | Q(~finished, finished_at__isnull=False)
    )


def mend_finish_time(node: Node) -> AfterCommit:
    """Let the time of a node's end say what its status says."""
    rows = Node.objects.using(node.alias).filter(pk=node.pk)
    if node.is_finished:
        last = node.transitions.order_by("-pk").values_list("at", flat=True).first()
        rows.update(finished_at=last or clock.now(), awaited_by=None)
    else:
        rows.update(finished_at=None, awaited_by=node.parent_id if node.counts else None)
    return AfterCommit(maybe_complete=[node.parent_id] if node.parent_id else [])


def odd_awaited(part: Slice) -> QuerySet[Node]:
    waits = Q(finished_at=None, mode__in=COUNTING, parent__isnull=False)
    right = Q(waits, awaited_by=F("parent_id")) | Q(~waits, awaited_by=None)
    return part.nodes.exclude(right)


def mend_awaited(node: Node) -> AfterCommit:
    """Note again whether the parent waits for this node."""
    waits = node.finished_at is None and node.counts
    rows = Node.objects.using(node.alias).filter(pk=node.pk)
    rows.update(awaited_by=node.parent_id if waits else None)
    return AfterCommit(maybe_complete=[node.parent_id] if node.parent_id else [])


def odd_outcomes(part: Slice) -> QuerySet[Node]:
    complete = Q(status=Status.COMPLETE)
    # Resolved or shut down, and waiting for what was added to it: it completes with that.
    settled = Q(status=Status.WAITING, outcome__in=[Outcome.RESOLVED, Outcome.SHUTDOWN])
    return part.nodes.filter(Q(complete, outcome="") | Q(~complete, ~settled, ~Q(outcome="")))


def mend_outcome(node: Node) -> None:
    """Clear the outcome of what is not complete; what the engine completed has succeeded."""
    rows = Node.objects.using(node.alias).filter(pk=node.pk)
    last = node.transitions.order_by("-pk").first()
    if node.status != Status.COMPLETE:
        rows.update(outcome="")
    elif last is not None and last.from_status != Status.FAILED:
        rows.update(outcome=Outcome.SUCCEEDED)


def wrong_workflow(part: Slice) -> QuerySet[Node]:
    return part.families.exclude(workflow_id=F("parent__workflow_id"))


def stray_roots(part: Slice) -> QuerySet[Node]:
    return part.nodes.filter(parent=None).exclude(workflow_id=F("pk"))


SOON = "The sweeper does it: see that a worker runs, or run backbeat_sweep."

CHECKS: Checks = (
    Check(
        "finished-at",
        4,
        "has a finished_at that does not fit its status",
        odd_finish_times,
        "",
        mend_finish_time,
    ),
    Check(
        "awaited-by",
        4,
        "has an awaited_by that does not fit its status and mode",
        odd_awaited,
        "",
        mend_awaited,
    ),
    Check(
        "outcome",
        4,
        "has an outcome that does not fit its status",
        odd_outcomes,
        "Nobody can tell whether it was resolved or shut down.",
        mend_outcome,
    ),
    Check(
        "open-child",
        4,
        "is unfinished, but its parent is complete",
        open_below_complete,
        TOO_EARLY,
    ),
    Check(
        "open-link",
        4,
        "is complete, but a signal it is linked to is not",
        linked_and_complete,
        TOO_EARLY,
    ),
    Check("waiting", 4, "waits for nothing any more", waiting_in_vain, SOON, look_again, True),
    Check("message", 5, "has no time for its next message", always_republish, "", publish_soon),
    Check("ready", 5, "has its turn, but is not queued", held_in_vain, SOON, open_turn, True),
    Check("pending", 5, "waits for a handler that was accepted", pending_in_vain, "", release),
    Check("paused", 5, "is paused in a workflow that is not", paused_in_vain, SOON, requeue, True),
    Check(
        "left-behind",
        6,
        "was left behind by an attempt that was not accepted",
        left_behind,
        ORPHAN,
    ),
    Check("not-held", 6, "began before its parent's handler was accepted", not_held, ORPHAN),
    Check(
        "below-canceled",
        7,
        "goes on below a canceled node",
        below_canceled,
        SOON,
        cancel_orphan,
        True,
    ),
    Check(
        "workflow",
        6,
        "belongs to another workflow than its parent",
        wrong_workflow,
        "Restore its workflow_id from the row above it.",
    ),
    Check(
        "root",
        6,
        "has no parent, but is not its workflow's root",
        stray_roots,
        "Restore its parent_id, or delete it.",
    ),
)

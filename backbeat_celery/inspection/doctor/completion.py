"""Invariants 4 to 7: nothing completes too early, is stuck, or outlives its parent."""

from __future__ import annotations

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.engine.attempt_results import release_children
from backbeat_celery.engine.delivery.make_due import make_due
from backbeat_celery.engine.order.cancel import cancel_orphan
from backbeat_celery.engine.order.finish import lock_node
from backbeat_celery.engine.order.turns import open_ready
from backbeat_celery.engine.order.waiting_graph import open_links, siblings_ahead
from backbeat_celery.engine.repair.republish import requeue
from backbeat_celery.inspection.doctor.check import Check, Checks, Slice
from backbeat_celery.models import Attempt, Node, Workflow
from backbeat_celery.runtime import clock
from backbeat_celery.states import (
    COUNTING,
    FINISHED,
    UNACCEPTED,
    AttemptOutcome,
    Outcome,
    Status,
)

TOO_EARLY = "A complete node stays complete: let the other finish, or cancel() it."
ORPHAN = "Nothing waits for it: cancel() it, or let it finish."


def unfinished_below_complete(part: Slice) -> QuerySet[Node]:
    return part.families.unfinished().counting().filter(parent__status=Status.COMPLETE)


def complete_with_open_link(part: Slice) -> QuerySet[Node]:
    return part.nodes.filter(_has_open_link(), status=Status.COMPLETE)


def _has_open_link() -> Exists:
    return Exists(open_links().filter(source=OuterRef("pk")))


def stuck_waiting(part: Slice) -> QuerySet[Node]:
    closed = Workflow.objects.filter(pk=OuterRef("workflow_id"), closed_at__isnull=False)
    waiting = part.nodes.filter(status=Status.WAITING)
    may_end = Q(parent__isnull=False) | Q(Exists(closed))
    idle = ~Exists(Node.objects.awaited_by(OuterRef("pk")))
    return waiting.filter(~_has_open_link(), idle, may_end)


def repair_waiting(node: Node) -> AfterCommit:
    return AfterCommit(maybe_complete=[node.pk])


def stuck_ready(part: Slice) -> QuerySet[Node]:
    place = OuterRef("parent_id"), OuterRef("seq")
    is_free = Q(~Exists(siblings_ahead(*place, barrier=False)), barrier=False)
    is_free |= Q(~Exists(siblings_ahead(*place, barrier=True)), barrier=True)
    accepted = Q(parent__status__in=(Status.WAITING, Status.COMPLETE))
    return part.families.filter(is_free, accepted, status=Status.READY)


def repair_ready(node: Node) -> AfterCommit:
    """Queue a child that waits for nothing any more."""
    assert node.parent_id is not None
    parent, now = lock_node(node.parent_id, node.alias)
    after_commit = open_ready(parent, node.seq - 1, now)
    after_commit.maybe_complete.append(parent.pk)
    return after_commit


def stuck_pending(part: Slice) -> QuerySet[Node]:
    return part.families.filter(status=Status.PENDING, parent__status=Status.WAITING)


def repair_pending(node: Node) -> AfterCommit:
    """Release the children of a node whose handler was accepted."""
    assert node.parent_id is not None
    parent, now = lock_node(node.parent_id, node.alias)
    return release_children(parent, now)


def stuck_paused(part: Slice) -> QuerySet[Node]:
    going_on = Workflow.objects.filter(pk=OuterRef("workflow_id"), paused_at=None)
    return part.nodes.filter(Exists(going_on), status=Status.PAUSED)


def unpublished(part: Slice) -> QuerySet[Node]:
    return part.nodes.claimable().filter(publish_at=None)


def repair_unpublished(node: Node) -> None:
    """Make the sweeper publish a message for the node at its next pass."""
    make_due([node.pk], node.alias)


def spawned_by_unaccepted_attempt(part: Slice) -> QuerySet[Node]:
    accepted = Attempt.objects.filter(
        node_id=OuterRef("parent_id"),
        number=OuterRef("spawned_by"),
        outcome=AttemptOutcome.SUCCEEDED,
    )
    # The steps of a container came with it: its parent's attempt spawned them.
    spawned = part.families.filter(spawned_by__isnull=False, rescue=False, parent__container="")
    return spawned.exclude(status=Status.CANCELED).filter(~Exists(accepted))


def started_before_parent(part: Slice) -> QuerySet[Node]:
    early = part.families.unfinished().exclude(status=Status.PENDING).filter(rescue=False)
    return early.filter(parent__status__in=UNACCEPTED)


def unfinished_below_canceled(part: Slice) -> QuerySet[Node]:
    return part.families.unfinished().filter(parent__status=Status.CANCELED)


def inconsistent_finished_at(part: Slice) -> QuerySet[Node]:
    finished = Q(status__in=FINISHED)
    return part.nodes.filter(
        Q(finished, finished_at=None) | Q(~finished, finished_at__isnull=False)
    )


def repair_finished_at(node: Node) -> AfterCommit:
    """Set or clear `finished_at` as the status requires."""
    rows = Node.objects.using(node.alias).filter(pk=node.pk)
    if node.is_finished:
        last = node.transitions.order_by("-pk").values_list("at", flat=True).first()
        rows.update(finished_at=last or clock.now(), awaited_by=None)
    else:
        rows.update(finished_at=None, awaited_by=node.parent_id if node.counts else None)
    return AfterCommit(maybe_complete=[node.parent_id] if node.parent_id else [])


def inconsistent_awaited_by(part: Slice) -> QuerySet[Node]:
    waits = Q(finished_at=None, mode__in=COUNTING, parent__isnull=False)
    right = Q(waits, awaited_by=F("parent_id")) | Q(~waits, awaited_by=None)
    return part.nodes.exclude(right)


def repair_awaited_by(node: Node) -> AfterCommit:
    """Set or clear `awaited_by` as status and mode require."""
    waits = node.finished_at is None and node.counts
    rows = Node.objects.using(node.alias).filter(pk=node.pk)
    rows.update(awaited_by=node.parent_id if waits else None)
    return AfterCommit(maybe_complete=[node.parent_id] if node.parent_id else [])


def inconsistent_outcomes(part: Slice) -> QuerySet[Node]:
    complete = Q(status=Status.COMPLETE)
    # Resolved or shut down, and waiting for children that were added to it.
    settled = Q(status=Status.WAITING, outcome__in=[Outcome.RESOLVED, Outcome.SHUTDOWN])
    return part.nodes.filter(Q(complete, outcome="") | Q(~complete, ~settled, ~Q(outcome="")))


def repair_outcome(node: Node) -> None:
    """Clear the outcome of an unfinished node; a node that the engine completed succeeded."""
    rows = Node.objects.using(node.alias).filter(pk=node.pk)
    last = node.transitions.order_by("-pk").first()
    if node.status != Status.COMPLETE:
        rows.update(outcome="")
    elif last is not None and last.from_status != Status.FAILED:
        rows.update(outcome=Outcome.SUCCEEDED)


def inconsistent_workflows(part: Slice) -> QuerySet[Node]:
    return part.families.exclude(workflow_id=F("parent__workflow_id"))


def extra_roots(part: Slice) -> QuerySet[Node]:
    return part.nodes.filter(parent=None).exclude(workflow_id=F("pk"))


SOON = "The sweeper repairs this: check that a worker runs, or run backbeat_sweep."

CHECKS: Checks = (
    Check(
        "finished-at-mismatch",
        invariant=4,
        problem="has a finished_at that does not fit its status",
        find=inconsistent_finished_at,
        repair=repair_finished_at,
    ),
    Check(
        "awaited-by-mismatch",
        invariant=4,
        problem="has an awaited_by that does not fit its status and mode",
        find=inconsistent_awaited_by,
        repair=repair_awaited_by,
    ),
    Check(
        "outcome-mismatch",
        invariant=4,
        problem="has an outcome that does not fit its status",
        find=inconsistent_outcomes,
        advice="The history does not show whether it was resolved or shut down.",
        repair=repair_outcome,
    ),
    Check(
        "unfinished-child",
        invariant=4,
        problem="is unfinished, but its parent is complete",
        find=unfinished_below_complete,
        advice=TOO_EARLY,
    ),
    Check(
        "unfinished-link",
        invariant=4,
        problem="is complete, but a signal it is linked to is not",
        find=complete_with_open_link,
        advice=TOO_EARLY,
    ),
    Check(
        "stuck-waiting",
        invariant=4,
        problem="waits for nothing any more",
        find=stuck_waiting,
        advice=SOON,
        repair=repair_waiting,
        is_transient=True,
    ),
    Check(
        "missing-message",
        invariant=5,
        problem="has no time for its next message",
        find=unpublished,
        repair=repair_unpublished,
    ),
    Check(
        "stuck-ready",
        invariant=5,
        problem="waits for nothing any more, but is not queued",
        find=stuck_ready,
        advice=SOON,
        repair=repair_ready,
        is_transient=True,
    ),
    Check(
        "stuck-pending",
        invariant=5,
        problem="waits for a handler that was accepted",
        find=stuck_pending,
        repair=repair_pending,
    ),
    Check(
        "stuck-paused",
        invariant=5,
        problem="is paused in a workflow that is not",
        find=stuck_paused,
        advice=SOON,
        repair=requeue,
        is_transient=True,
    ),
    Check(
        "unaccepted-attempt",
        invariant=6,
        problem="was spawned by an attempt that was not accepted",
        find=spawned_by_unaccepted_attempt,
        advice=ORPHAN,
    ),
    Check(
        "started-before-parent",
        invariant=6,
        problem="started before its parent's handler was accepted",
        find=started_before_parent,
        advice=ORPHAN,
    ),
    Check(
        "unfinished-below-canceled",
        invariant=7,
        problem="is unfinished below a canceled node",
        find=unfinished_below_canceled,
        advice=SOON,
        repair=cancel_orphan,
        is_transient=True,
    ),
    Check(
        "workflow-mismatch",
        invariant=6,
        problem="belongs to another workflow than its parent",
        find=inconsistent_workflows,
        advice="Restore its workflow_id from the row above it.",
    ),
    Check(
        "extra-root",
        invariant=6,
        problem="has no parent, but is not its workflow's root",
        find=extra_roots,
        advice="Restore its parent_id, or delete it.",
    ),
)

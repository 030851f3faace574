"""Workflows that differ from their roots, and rows whose node is gone."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.expressions import Combinable

from backbeat_celery.inspection.doctor.check import Check, Checks, Slice
from backbeat_celery.models import Attempt, Node, Transition, Workflow
from backbeat_celery.states import FINISHED


def inconsistent_runs(part: Slice) -> QuerySet[Workflow]:
    finished = Node.objects.filter(pk=OuterRef("pk"), status__in=FINISHED)
    rows = part.workflows.annotate(is_over=Exists(finished), has_root=_has_root())
    over = Q(is_over=True, unfinished=None, finished_at__isnull=False)
    going_on = Q(is_over=False, unfinished=True, finished_at=None)
    return rows.filter(has_root=True).exclude(over | going_on)


def repair_run(workflow: Workflow) -> None:
    """Finish or reopen a workflow's row as its root requires."""
    root = Node.objects.using(workflow.alias).get(pk=workflow.pk)
    rows = Workflow.objects.using(workflow.alias).filter(pk=workflow.pk)
    if root.is_finished:
        rows.update(unfinished=None, finished_at=workflow.finished_at or root.finished_at)
        return
    try:
        with transaction.atomic(using=workflow.alias):
            rows.update(unfinished=True, finished_at=None)
    except IntegrityError:
        return  # another run is open by now: the finding remains


def without_root(part: Slice) -> QuerySet[Workflow]:
    return part.workflows.filter(~_has_root())


def _has_root() -> Exists:
    return Exists(Node.objects.filter(pk=OuterRef("pk"), parent=None))


def without_workflow(part: Slice) -> QuerySet[Node]:
    workflow = Workflow.objects.filter(pk=OuterRef("workflow_id"))
    return part.nodes.filter(~Exists(workflow))


def _no_node() -> Combinable:
    return ~Exists(Node.objects.filter(pk=OuterRef("node_id")))


def orphan_transitions(part: Slice) -> QuerySet[Transition]:
    return part.transitions.filter(_no_node())


def orphan_attempts(part: Slice) -> QuerySet[Attempt]:
    return part.attempts.filter(_no_node())


def delete_orphan(row: Transition | Attempt) -> None:
    """Delete a row whose node is gone."""
    row.delete()


CHECKS: Checks = (
    Check(
        "run-mismatch",
        invariant=4,
        problem="differs from its root in whether it is finished",
        find=inconsistent_runs,
        advice="Another run of it is open: cancel() what is left of this one.",
        repair=repair_run,
    ),
    Check(
        "missing-root",
        invariant=4,
        problem="has no root",
        find=without_root,
        advice="Delete it with Workflow.delete().",
    ),
    Check(
        "missing-workflow",
        invariant=6,
        problem="belongs to no workflow",
        find=without_workflow,
        advice="Its workflow was deleted by hand: delete its tree as well.",
    ),
    Check(
        "orphan-transition",
        invariant=None,
        problem="has no node any more",
        find=orphan_transitions,
        repair=delete_orphan,
    ),
    Check(
        "orphan-attempt",
        invariant=None,
        problem="has no node any more",
        find=orphan_attempts,
        repair=delete_orphan,
    ),
)

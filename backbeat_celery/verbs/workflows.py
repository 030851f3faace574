"""The verbs of a workflow: pause, resume, close, cancel and delete."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from heapq import merge
from itertools import chain, islice
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from backbeat_celery.engine.advance import advance_after_commit
from backbeat_celery.engine.after_commit import AT_ONCE, AfterCommit
from backbeat_celery.engine.claim import lock_workflow
from backbeat_celery.engine.order.cancel import Top, cancel_trees
from backbeat_celery.engine.order.finish import lock_node
from backbeat_celery.engine.order.subtree import BATCH
from backbeat_celery.engine.order.turns import queue_paused
from backbeat_celery.exceptions import InvalidTransition
from backbeat_celery.models import Link, Node, Workflow
from backbeat_celery.models.transitions import RowDeleted
from backbeat_celery.retention.deletion import PurgeCounts, delete_workflow_rows
from backbeat_celery.runtime import clock, failpoints
from backbeat_celery.runtime.ids import FIRST
from backbeat_celery.runtime.transactions import repeat
from backbeat_celery.states import COUNTING, Mode, Status
from backbeat_celery.verbs.actor import actor_name, reason_text
from backbeat_celery.verbs.deleted_rows import reread, unless_deleted
from backbeat_celery.verbs.foreign_transaction import warn_if_apart
from backbeat_celery.verbs.impact import paused_nodes

logger = logging.getLogger(__name__)


def pause(workflow: Workflow, *, by: Any = None, reason: str = "") -> None:
    """Start no new node in this run; running handlers continue, and are accepted.

    Pausing a paused run changes nothing. Raises InvalidTransition for a finished run.
    """
    actor, why = actor_name(by), reason_text(reason)

    def work(row: Workflow) -> AfterCommit:
        if row.unfinished is None:
            raise InvalidTransition(Status.COMPLETE, "pause", row.pk, "This run is finished.")
        if row.paused_at is None:
            _rows(row).update(paused_at=clock.now(), paused_by=actor, pause_reason=why)
        return AfterCommit()

    _steer(workflow, "pause", work)


def resume(workflow: Workflow, *, by: Any = None, reason: str = "") -> None:
    """Resume a paused run; nodes that became due meanwhile run at once.

    Resuming a run that is not paused changes nothing.
    """
    actor, why = actor_name(by), reason_text(reason) or "resumed"

    def work(row: Workflow) -> AfterCommit:
        _rows(row).update(paused_at=None, paused_by="", pause_reason="")
        paused = paused_nodes(row).locked().with_time()
        slim, after_commit = paused.defer("result", "error", "metadata"), AfterCommit()
        last = FIRST
        while rows := list(slim.filter(pk__gt=last)[:AT_ONCE]):
            last = rows[-1].pk
            after_commit += queue_paused(rows, actor=actor, reason=why, later=bool(after_commit))
        return after_commit

    _steer(workflow, "resume", work)


def close(workflow: Workflow, *, by: Any = None, reason: str = "") -> None:
    """Accept no more signals; the run is finished when all nodes that count are.

    Closing a closed run changes nothing.
    """
    actor, why = actor_name(by), reason_text(reason)

    def work(row: Workflow) -> AfterCommit:
        lock_node(row.pk, row.alias)  # a signal locks the root, too
        if row.closed_at is None:
            _rows(row).update(closed_at=clock.now(), closed_by=actor, close_reason=why)
        return AfterCommit(maybe_complete=[row.pk])

    _steer(workflow, "close", work)


def cancel_workflow(workflow: Workflow, *, by: Any = None, reason: str = "") -> None:
    """Cancel every unfinished node but the root; the workflow stays open."""
    actor, why = actor_name(by), reason_text(reason) or "its workflow was canceled"

    _steer(workflow, "cancel", lambda row: _cancel_all(row, actor, why))


def delete_workflow(
    workflow: Workflow, *, using: str | None = None, by: Any = None, reason: str = ""
) -> tuple[int, dict[str, int]]:
    """Delete a run with all its nodes; give what Django's `delete()` gives."""
    actor, why, alias = actor_name(by), reason_text(reason), using or workflow.alias

    def once() -> PurgeCounts:
        with transaction.atomic(using=alias):
            try:
                row = lock_workflow(workflow.pk, alias)
            except RowDeleted:
                return PurgeCounts()  # already deleted: as Django's delete() takes it
            after_commit = _cancel_all(row, actor, why)
            # Links to the run are deleted: nodes that waited check whether these were their last.
            links = Link.objects.using(alias).filter(target__workflow=row)
            after_commit.maybe_complete += links.values_list("source_id", flat=True)
            counts = delete_workflow_rows([row.pk], alias)
            advance_after_commit(after_commit, alias)
            return counts

    counts = repeat(once, using=alias)
    by_actor = f" by {actor}" if actor else ""
    logger.info("Deleted %s%s: %s", workflow, by_actor, counts)
    return counts.total, counts.by_model()


def _cancel_all(row: Workflow, actor: str, reason: str) -> AfterCommit:
    after_commit = AfterCommit()
    # While the root is locked no signal is added, and a canceled node records no children. The
    # second read finds children that were recorded between the first read and the lock.
    lock_node(row.pk, row.alias)
    for tops in chain(_signals(row), iter(lambda: _tops(row), [])):
        # All nodes are canceled, so none behind them is queued.
        after_commit += cancel_trees(tops, row.alias, actor=actor, reason=reason, opens=False)
    return after_commit


def _steer(workflow: Workflow, verb: str, work: Callable[[Workflow], AfterCommit]) -> None:
    using = workflow.alias
    warn_if_apart(using, f"{verb}()")

    def once() -> None:
        with transaction.atomic(using=using):
            with unless_deleted(verb, workflow.pk):
                row = lock_workflow(workflow.pk, using)
            after_commit = work(row)
            failpoints.hit("workflow_steered")
            advance_after_commit(after_commit, using)

    repeat(once, using=using)
    reread(workflow)


def _rows(workflow: Workflow) -> Any:
    return Workflow.objects.using(workflow.alias).filter(pk=workflow.pk)


def _signals(workflow: Workflow) -> Iterator[list[Top]]:
    """Give the unfinished signals that count, in order and in batches."""
    signals = merge(*(_of_mode(workflow, mode) for mode in COUNTING))
    while some := list(islice(signals, BATCH)):
        yield [(pk, workflow.pk) for _, pk in some]


def _of_mode(workflow: Workflow, mode: Mode) -> Iterator[tuple[int, UUID]]:
    """Give place and id of each unfinished signal of a mode, in order."""
    rest = Node.objects.using(workflow.alias).awaited_by(workflow.pk).filter(mode=mode)
    places, last = rest.order_by("seq").values_list("seq", "pk"), -1
    while rows := list(places.filter(seq__gt=last)[:BATCH]):
        last = rows[-1][0]
        yield from rows


def _tops(workflow: Workflow) -> list[Top]:
    """Give a batch of unfinished nodes of a workflow whose parents are the root or finished."""
    rows = Node.objects.using(workflow.alias).unfinished_in(workflow.pk)
    is_top = Q(parent_id=workflow.pk) | Q(parent__finished_at__isnull=False)
    found: Any = rows.filter(is_top).order_by("id").values_list("pk", "parent_id")[:BATCH]
    return list(found)

"""The sweep: find nodes that are due, lost, timed out or stuck, and repair them.

Each condition is a query on an index and depends on the rows alone. Any number of sweeps may run
at the same time. Each node is repaired in a transaction of its own, so that an error in one does
not stop the others. A locked row is left for a later pass. docs/recovery.md lists which condition
repairs which crash.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from uuid import UUID

from celery.exceptions import TimeLimitExceeded, WorkerLostError
from django.db.models import Exists, OuterRef, Q, QuerySet

from backbeat_celery.conf import settings
from backbeat_celery.engine.advance import advance, try_complete
from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.engine.attempt_results import write_failure
from backbeat_celery.engine.order.cancel import cancel_orphan
from backbeat_celery.engine.order.expiry import expire, is_over
from backbeat_celery.engine.order.finish import lock_node
from backbeat_celery.engine.order.turns import is_barrier_clear, open_ready
from backbeat_celery.engine.order.waiting_graph import siblings_ahead
from backbeat_celery.engine.outcomes import Failed, Lost
from backbeat_celery.engine.repair.republish import publish_due, requeue
from backbeat_celery.engine.rescue import call_back
from backbeat_celery.inputs.policy import policy_for
from backbeat_celery.models import Node, Workflow
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.models.transitions import StaleNode, transition
from backbeat_celery.runtime import clock, failpoints, migration_state
from backbeat_celery.runtime.ids import FIRST
from backbeat_celery.runtime.lock_timeouts import RowLocked, step, without_waiting
from backbeat_celery.runtime.transactions import repeat_on
from backbeat_celery.states import AttemptOutcome, Status

logger = logging.getLogger(__name__)
T = TypeVar("T", bound=tuple[Any, ...])

BATCH = 500
"""Rows that one pass repairs for each condition; the rest follows in the next pass."""

PAGE = 2000
"""Rows read at once for a condition that no index can answer."""


class Sweep:
    """Repairs one database. Between passes it keeps the position of its scans."""

    def __init__(self, using: str) -> None:
        self.using = using
        self._reached: dict[str, UUID] = {}
        self._alive: set[UUID] = set()
        """Attempts that the previous pass found expired but locked."""

    def run(self) -> Counter[str]:
        """Make one pass; give the number of nodes that were repaired for each condition."""
        with without_waiting():
            return self._run()

    def _run(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for name, repair in self._steps().items():
            failpoints.hit(f"sweep_{name}")
            try:
                counts[name] = repair()
            except Exception as exc:
                if not migration_state.log_missing_tables(exc):
                    logger.exception("Sweeping %s: the step %s failed", self.using, name)
        repaired = +counts
        if repaired:
            logger.info("Swept %s: %s", self.using, dict(repaired))
        return counts

    def _steps(self) -> dict[str, Callable[[], int]]:
        return {
            "published": lambda: publish_due(self.using, BATCH),
            "lost": self._lose_expired,
            "timed_out": lambda: self._each(self._timed_out(), time_out),
            "unknown_task": lambda: self._each(self._unknown_tasks(), fail_unknown),
            "expired": lambda: self._each(self._overdue(), expire),
            "completed": self._complete_waiting,
            "barriers": self._open_barriers,
            "resumed": lambda: self._each(self._stuck_paused(), requeue),
            "opened": self._open_stages,
            "canceled": lambda: self._each(self._below_canceled(), cancel_orphan),
        }

    def _nodes(self) -> NodeQuerySet:
        return Node.objects.using(self.using).unfinished().with_time()

    def _lose_expired(self) -> int:
        """End expired attempts, except those whose row is locked now or was in the last pass.

        Their workers could not renew the lease while the row was locked.
        """
        rows, self._alive = list(self._expired(self._alive)), set()
        return self._each(rows, lose, locked=self._alive)

    def _each(
        self,
        rows: Iterable[Node],
        repair: Callable[[Node], AfterCommit],
        locked: set[UUID] | None = None,
    ) -> int:
        """Repair each row in a transaction of its own; an error is logged and the rest goes on.

        Adds to `locked` the rows that are locked; they are skipped.
        """
        repaired = 0
        for row in rows:
            try:
                after_commit = repeat_on(row, repair, using=self.using)
                failpoints.hit("repaired")
                advance(after_commit, self.using)
                repaired += 1
            except StaleNode:
                continue  # another process has changed it
            except RowLocked:
                if locked is not None:
                    locked.add(row.pk)
            except Exception:
                logger.exception("Cannot repair node %s", row.pk, extra={"node_id": row.pk})
        return repaired

    def _expired(self, alive: set[UUID]) -> NodeQuerySet:
        running = self._nodes().filter(status=Status.RUNNING, lease_expires_at__lte=clock.now())
        return running.exclude(pk__in=alive).order_by("lease_expires_at")[:BATCH]

    def _timed_out(self) -> NodeQuerySet:
        running = self._nodes().filter(status=Status.RUNNING, times_out_at__lte=clock.now())
        return running.order_by("times_out_at")[:BATCH]

    def _unknown_tasks(self) -> NodeQuerySet:
        due = self._nodes().claimable().filter(times_out_at__lte=clock.now())
        return due.order_by("times_out_at")[:BATCH]

    def _overdue(self) -> NodeQuerySet:
        return self._nodes().filter(is_over()).order_by("expires_at")[:BATCH]

    def _stuck_paused(self) -> NodeQuerySet:
        going_on = Workflow.objects.filter(pk=OuterRef("workflow_id"), paused_at=None)
        return self._nodes().filter(Exists(going_on), status=Status.PAUSED)[:BATCH]

    def _below_canceled(self) -> list[Node]:
        # As tuples and not instances: usually none of thousands of rows has to be repaired.
        unfinished = self._nodes().values_list("pk", "parent__status")
        rows = self._scan("below_canceled", unfinished)
        return self._read([pk for pk, above in rows if above == Status.CANCELED])

    def _read(self, node_ids: Sequence[UUID]) -> list[Node]:
        """Read those of these nodes that are still unfinished, ordered by id."""
        rows = self._nodes().without_payload().filter(pk__in=node_ids)
        return list(rows.order_by("pk")) if node_ids else []

    def _scan(self, name: str, rows: QuerySet[Any, T]) -> Iterator[T]:
        """Read rows, given as tuples with the id first, ordered by id.

        A scan that takes longer than an eighth of the sweep interval continues in the next pass.
        """
        until = time.monotonic() + settings.sweep_interval / 8
        while True:
            found = list(rows.filter(pk__gt=self._reached.get(name, FIRST)).order_by("pk")[:PAGE])
            yield from found
            is_end = len(found) < PAGE
            self._reached[name] = FIRST if is_end else found[-1][0]
            if is_end or time.monotonic() > until:
                return

    def _complete_waiting(self) -> int:
        waiting = self._nodes().filter(status=Status.WAITING, parent__isnull=False)
        columns = waiting.with_open_child().values_list("pk", "open_child")  # type: ignore[misc]
        rows = self._scan("waiting", columns)
        done = [pk for pk, open_child in rows if not open_child]
        closed = Workflow.objects.using(self.using).filter(
            unfinished=True, closed_at__isnull=False
        )
        done += [pk for (pk,) in self._scan("closed", closed.values_list("pk"))]
        return self._look_at(done)

    def _open_barriers(self) -> int:
        parents = self._nodes().filter(status=Status.WAITING, next_barrier__isnull=False)
        found = [pk for (pk,) in self._scan("barriers", parents.values_list("pk"))]
        return self._look_at([row.pk for row in self._read(found) if is_barrier_clear(row)])

    def _look_at(self, node_ids: Iterable[UUID]) -> int:
        repaired = 0
        for node_id in node_ids:
            if after_commit := try_complete(node_id, self.using):
                advance(after_commit, self.using)
                repaired += 1
        return repaired

    def _open_stages(self) -> int:
        """Open stages that were not opened in the transaction which ended their blocking child."""
        held = Exists(siblings_ahead(OuterRef("parent_id"), OuterRef("seq"), barrier=False))
        ready = self._nodes().filter(status=Status.READY, barrier=False).annotate(is_held=held)  # type: ignore[no-redef]
        columns = ready.values_list("pk", "is_held", "parent_id", "parent__status", "seq")  # type: ignore[misc]
        floors: dict[UUID, int] = {}
        for _, is_held, parent_id, above, seq in self._scan("stages", columns):
            if not is_held and above == Status.WAITING:
                floors.setdefault(parent_id, seq - 1)
        opened = 0
        for parent_id, floor in floors.items():
            with suppress(RowLocked, StaleNode):
                advance(_open_from(parent_id, floor, self.using), self.using)
                opened += 1
        return opened


def lose(node: Node) -> AfterCommit:
    """End a running attempt as lost: queue the next one, or fail a node that kills workers."""
    error = f"The worker {node.worker} did not renew its lease."
    ending = Lost.by(WorkerLostError(error), error)
    return _end(node, ending, Q(lease_expires_at__lte=clock.now()))


def give_back(node: Node) -> AfterCommit:
    """Give back an attempt whose process died in a shutdown of its worker; it does not count."""
    ending = Lost("The worker was shut down.", AttemptOutcome.GIVEN_BACK, counted=False)
    return _end(node, ending, Q(lease_expires_at__lte=clock.now()))


def time_out(node: Node, limit: float | None = None) -> AfterCommit:
    """End a running attempt that has timed out as failed; by default its timeout is the limit."""
    if limit is None:
        limit = _seconds_given(node)
    ending = Failed.unraised(
        TimeLimitExceeded(limit),
        f"The attempt had not finished by {node.times_out_at:%Y-%m-%d %H:%M:%S %Z}.",
        kind=AttemptOutcome.TIMED_OUT,
    )
    return _end(node, ending, Q(times_out_at__lte=clock.now()))


def _seconds_given(node: Node) -> float:
    if node.times_out_at is None or node.started_at is None:
        return 0
    seconds = round((node.times_out_at - node.started_at).total_seconds(), 3)
    return int(seconds) if seconds.is_integer() else seconds


def _end(node: Node, ending: Failed | Lost, guard: Q) -> AfterCommit:
    with step(node.alias):
        now = node.db_now
        after_commit = write_failure(node, ending, policy_for(node), now, guard=guard)
        failpoints.hit("failure_written")
        return after_commit


def fail_unknown(node: Node) -> AfterCommit:
    """Fail a queued node whose task no worker knows, after UNKNOWN_TASK_GRACE."""
    reason = "no worker knows the task"
    expired = Q(times_out_at__lte=clock.now())
    with step(node.alias):
        if node.status == Status.RETRYING:
            transition(
                node, Status.QUEUED, reason=reason, guard=expired, times_out_at=node.times_out_at
            )
        transition(node, Status.FAILED, reason=reason, guard=expired)
        return call_back(node, policy_for(node), reason, node.error)


def _open_from(parent_id: UUID, floor: int, using: str) -> AfterCommit:
    with step(using):
        parent, now = lock_node(parent_id, using)
        return open_ready(parent, floor, now)

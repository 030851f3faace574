"""Children of a node: their place in the line, their insertion, and whose turn it is.

Rules (docs/ordering.md tells them with pictures): a stage opens when the blocking child
before it is finished; a barrier waits for every earlier sibling that counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import BigIntegerField, DateTimeField, ExpressionWrapper, F, Subquery, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce

from backbeat_celery import clock, points
from backbeat_celery.conf import settings
from backbeat_celery.engine.inserting import insert
from backbeat_celery.engine.postgres.rows import new_node
from backbeat_celery.engine.wake import Wake, is_due, publications_due, seconds_until
from backbeat_celery.models import Node, Workflow
from backbeat_celery.querysets import NodeQuerySet
from backbeat_celery.specs import NodeSpec
from backbeat_celery.states import COUNTING, Mode, Outcome, Status
from backbeat_celery.transitions import transition_all

END_OF_LINE = 2**62


class Line:
    """New children at the end of a parent's line: gives each its place and its status."""

    def __init__(self, parent: Node, now: datetime) -> None:
        self.parent = parent
        self.now = now
        self.children: list[Node] = []
        self._due_flags: list[Node] = []
        self._crowded = True
        self._next_seq = parent.next_seq
        self._next_stage = parent.next_stage
        self._next_barrier = parent.next_barrier

    def add(self, specs: Iterable[NodeSpec], spawned_by: int | None) -> None:
        """Make the rows in order, each at its place."""
        self.children += [self._build(spec, spawned_by) for spec in specs]

    def _build(self, spec: NodeSpec, spawned_by: int | None) -> Node:
        self._next_stage += spec.barrier
        node = new_node(
            self.parent.alias,
            id=spec.id,
            workflow_id=self.parent.workflow_id,
            parent_id=self.parent.pk,
            awaited_by=self.parent.pk if spec.mode in COUNTING else None,
            seq=self._next_seq,
            stage=self._next_stage,
            barrier=spec.barrier,
            remote=spec.remote,
            awaits_completion=spec.awaits_completion,
            task=spec.task,
            name=spec.name,
            mode=spec.mode,
            args=spec.args,
            kwargs=spec.kwargs,
            options=spec.options,
            metadata=spec.metadata,
            key=spec.key,
            spawned_by=spawned_by,
            fires_at=spec.due_at(self.now),
            created_at=self.now,
        )
        self._next_seq += 1
        self._next_stage += spec.mode == Mode.BLOCKING
        return node

    def hold(self, status: Status) -> None:
        """Let all of them wait: for the parent's handler, or for whoever opens their stage."""
        for child in self.children:
            child.status = status
        self._note_barrier()

    def take_turns(self, *, blocked: bool = False, crowded: bool = False) -> None:
        """Give each its status by the rules of order.

        `blocked`: something unfinished before them holds back what follows;
        `crowded`: something before them that counts is unfinished.
        """
        flags_go = self._flags_may_complete()
        for child in self.children:
            has_turn = not blocked and not (child.barrier and crowded)
            child.status = Status.QUEUED if has_turn else Status.READY
            if has_turn and child.is_flag and flags_go and is_due(child.fires_at, self.now):
                self._due_flags.append(child)
                continue
            if has_turn:
                child.publish_at = _publish_time(child, self.now)
            blocked = blocked or child.is_blocking
            crowded = crowded or child.counts
        self._crowded = crowded
        self._note_barrier()

    def _flags_may_complete(self) -> bool:
        return any(child.is_flag for child in self.children) and not _is_paused(self.parent)

    def _note_barrier(self) -> None:
        held = [c.seq for c in self.children if c.barrier and c.status != Status.QUEUED]
        if self._next_barrier is None and held:
            self._next_barrier = held[0]

    def counters(self) -> dict[str, Any]:
        """The parent's columns that the new children change."""
        return {
            "next_seq": self._next_seq,
            "next_stage": self._next_stage,
            "next_barrier": self._next_barrier,
        }

    def insert(self) -> Wake:
        """Write the rows; the caller has written the parent's counters."""
        insert(self.children)
        points.reached("children_inserted")
        _complete_flags(self._due_flags)
        opened = [child for child in self.children if child.status == Status.QUEUED]
        wake = Wake(publications=publications_due(opened, self.now))
        wake.news.completed += [flag.pk for flag in self._due_flags]
        # A barrier added while the last one before it ended was not seen by that one's look.
        has_held_barrier = any(c.barrier and c.status == Status.READY for c in self.children)
        if has_held_barrier or not self._crowded:
            wake.look_at.append(self.parent.pk)
        return wake


def open_ready(parent: Node, floor: int, now: datetime) -> Wake:
    """Queue the ready children after seq `floor` whose turn has come.

    The caller holds the parent's row lock, and nothing blocking up to `floor` is unfinished.
    """
    wake = Wake()
    while True:
        rows = list(_turn(parent, floor))
        barrier = rows.pop() if rows and rows[-1].barrier else None
        if barrier is not None and _is_clear_before(parent, barrier.seq):
            rows.append(barrier)
            move_barrier(parent, barrier.seq)
        flags = [row for row in rows if row.is_flag and is_due(row.fires_at, now)]
        if flags and _is_paused(parent):
            flags = []
        queued = [row for row in rows if row not in flags]
        _queue(queued, now)
        _complete_flags(flags)
        wake.news.completed += [flag.pk for flag in flags]
        wake.publications += publications_due(queued, now)
        if not (flags and flags[-1].is_blocking):
            break
        floor = flags[-1].seq
    if not any(row.counts for row in queued):
        wake.look_at.append(parent.pk)
    points.reached("stage_opened")
    return wake


def open_behind(parent: Node, seq: int, now: datetime) -> Wake:
    """Queue what stood behind a blocking child at `seq` that does not hold it back any more.

    The caller holds the parent's row lock. Nothing opens while an earlier one still blocks.
    """
    if _awaited(parent).blocking().filter(seq__lt=seq).first_awaited():
        return Wake()
    return open_ready(parent, seq - 1, now)


def queue_paused(rows: Sequence[Node], *, actor: str = "", reason: str = "resumed") -> Wake:
    """Queue paused nodes of a workflow that goes on, in the caller's transaction.

    The rows are read with their time.
    """
    if not rows:
        return Wake()
    tasks = [row for row in rows if not row.is_flag]
    flags = [row for row in rows if row.is_flag]
    said = {"actor": actor, "reason": reason}
    at_once, lease = clock.now(), clock.after(settings.lease)
    transition_all(tasks, Status.QUEUED, publish_at=lease, publications=0, **said)
    transition_all(flags, Status.QUEUED, publish_at=at_once, publications=0, **said)
    messages = publications_due(tasks, rows[0].db_now)
    return Wake(publications=messages, due_flags=[flag.pk for flag in flags])


def has_blocking_before(parent: Node) -> bool:
    """Tell whether an unfinished blocking child holds back what is added to the line's end."""
    return bool(_awaited(parent).blocking().first_awaited())


def has_counting_before(parent: Node) -> bool:
    """Tell whether an unfinished child that counts stands before the line's end."""
    return bool(_awaited(parent).first_awaited())


def is_barrier_clear(parent: Node) -> bool:
    """Tell whether a parent has a barrier with nothing that counts unfinished before it."""
    return parent.next_barrier is not None and _is_clear_before(parent, parent.next_barrier)


def _children(parent: Node) -> NodeQuerySet:
    return Node.objects.using(parent.alias).children_of(parent.pk)


def _awaited(parent: Node) -> NodeQuerySet:
    return Node.objects.using(parent.alias).awaited_by(parent.pk)


def _turn(parent: Node, floor: int) -> NodeQuerySet:
    """Ready children from `floor` to the next unfinished blocking one, locked."""
    after = _children(parent).filter(seq__gt=floor)
    bound = _awaited(parent).blocking().filter(seq__gt=floor).order_by("seq").values("seq")[:1]
    last = Coalesce(Subquery(bound), Value(END_OF_LINE), output_field=BigIntegerField())
    ready = after.filter(status=Status.READY, seq__lte=last).defer("result", "error", "metadata")
    return ready.order_by("seq").locked()


def _is_paused(parent: Node) -> bool:
    workflows = Workflow.objects.using(parent.alias).filter(pk=parent.workflow_id)
    return workflows.filter(paused_at__isnull=False).exists()


def _is_clear_before(parent: Node, seq: int) -> bool:
    # The mode, which all awaited children have, stands before seq in the index.
    return not _awaited(parent).counting().filter(seq__lt=seq).exists()


def move_barrier(parent: Node, seq: int) -> None:
    """Note the next barrier behind the one at `seq`, which is open or gone."""
    following = _children(parent).filter(barrier=True, seq__gt=seq).unfinished()
    parent.next_barrier = following.order_by("seq").values_list("seq", flat=True).first()
    rows = Node.objects.using(parent.alias).filter(pk=parent.pk)
    rows.update(next_barrier=parent.next_barrier)


def _queue(rows: Sequence[Node], now: datetime) -> None:
    lease, horizon = settings.lease, settings.publish_horizon
    waits = {row.pk: seconds_until(row.fires_at, now) for row in rows}
    at_once = [row for row in rows if not waits[row.pk] and not row.is_flag]
    soon = [row for row in rows if 0 < waits[row.pk] <= horizon and not row.is_flag]
    later = [row for row in rows if waits[row.pk] > horizon and not row.is_flag]
    flags = [row for row in rows if row.is_flag]
    transition_all(at_once, Status.QUEUED, publish_at=clock.after(lease))
    transition_all(soon, Status.QUEUED, publish_at=_fires_at_plus(lease))
    transition_all(later, Status.QUEUED, publish_at=_fires_at_plus(-horizon))
    transition_all(flags, Status.QUEUED, publish_at=Coalesce(F("fires_at"), clock.now()))


def _fires_at_plus(seconds: float) -> Combinable:
    moved = F("fires_at") + timedelta(seconds=seconds)
    return ExpressionWrapper(moved, output_field=DateTimeField())


def _publish_time(node: Node, now: datetime) -> datetime:
    """When the sweeper has to see to a queued node's message; until then nobody need."""
    wait = seconds_until(node.fires_at, now)
    if node.is_flag:
        return now + timedelta(seconds=wait)
    late = settings.lease if wait <= settings.publish_horizon else -settings.publish_horizon
    return now + timedelta(seconds=wait + late)


def _complete_flags(flags: Sequence[Node]) -> None:
    for status in (Status.QUEUED, Status.READY):
        due = [flag for flag in flags if flag.status == status]
        transition_all(due, Status.COMPLETE, outcome=Outcome.SUCCEEDED, reason="flag is due")

"""Children of a node: their place in the line, their insertion, and whose turn it is.

Rules (docs/ordering.md tells them with pictures): a stage opens when the blocking child
before it is finished; a barrier waits for every earlier sibling that counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connections
from django.db.models import BigIntegerField, DateTimeField, ExpressionWrapper, F, Subquery, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce

from backbeat_celery import clock
from backbeat_celery.conf import settings
from backbeat_celery.engine.wake import Publication, Wake, is_due, seconds_until
from backbeat_celery.models import Node, Workflow
from backbeat_celery.querysets import NodeQuerySet
from backbeat_celery.specs import NodeSpec
from backbeat_celery.states import COUNTING, Mode, Outcome, Status
from backbeat_celery.transitions import transition_all

INSERTED = """
    id workflow parent awaited_by seq stage barrier task name mode status args kwargs options
    metadata key spawned_by fires_at publish_at created_at
"""
INSERTED_FIELDS = [Node._meta.get_field(name) for name in INSERTED.split()]
LARGEST_INSERT = 10_000
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
        node = Node(
            id=spec.id,
            workflow_id=self.parent.workflow_id,
            parent_id=self.parent.pk,
            awaited_by=self.parent.pk if spec.mode in COUNTING else None,
            seq=self._next_seq,
            stage=self._next_stage,
            barrier=spec.barrier,
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
        node._state.db = self.parent._state.db
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
        _insert(self.children)
        _complete_flags(self._due_flags)
        opened = [child for child in self.children if child.status == Status.QUEUED]
        wake = Wake(publications=_publications(opened, self.now))
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
        wake.publications += _publications(queued, now)
        if not (flags and flags[-1].is_blocking):
            break
        floor = flags[-1].seq
    if not any(row.counts for row in queued):
        wake.look_at.append(parent.pk)
    return wake


def has_blocking_before(parent: Node) -> bool:
    """Tell whether an unfinished blocking child holds back what is added to the line's end."""
    return _awaited(parent).blocking().exists()


def has_counting_before(parent: Node) -> bool:
    """Tell whether an unfinished child that counts stands before the line's end."""
    return _awaited(parent).exists()


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


def _publications(rows: Iterable[Node], now: datetime) -> list[Publication]:
    horizon = settings.publish_horizon
    return [
        Publication.of(row, now)
        for row in rows
        if not row.is_flag and seconds_until(row.fires_at, now) <= horizon
    ]


def _complete_flags(flags: Sequence[Node]) -> None:
    for status in (Status.QUEUED, Status.READY):
        due = [flag for flag in flags if flag.status == status]
        transition_all(due, Status.COMPLETE, outcome=Outcome.SUCCEEDED, reason="flag is due")


def _insert(children: Sequence[Node]) -> None:
    """Insert rows with the columns that a new node has; the rest has defaults in the database.

    `bulk_create` would send every column of the table, half of them empty, and so fit
    half as many rows into a statement.
    """
    if not children:
        return
    using = children[0].alias
    connection = connections[using]
    limit = connection.ops.bulk_batch_size(INSERTED_FIELDS, children)
    size = max(1, min(limit, LARGEST_INSERT))
    for start in range(0, len(children), size):
        chunk = children[start : start + size]
        rows = Node._base_manager.using(using)
        rows._insert(chunk, fields=INSERTED_FIELDS, using=using)  # type: ignore[attr-defined]
    for child in children:
        child._state.adding = False

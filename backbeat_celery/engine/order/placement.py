"""New children at the end of a parent's line: their places, their turns, their insertion.

The rules of order are those of `children.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any
from uuid import UUID

from backbeat_celery.conf import settings
from backbeat_celery.engine.after_commit import AfterCommit, Publication
from backbeat_celery.engine.order.insertion import insert
from backbeat_celery.engine.order.turns import complete_flags, is_paused
from backbeat_celery.engine.publish_times import is_due, publish_at, seconds_until, turn_times
from backbeat_celery.inputs.node_spec import NodeSpec
from backbeat_celery.models import Node
from backbeat_celery.runtime import failpoints
from backbeat_celery.runtime.batches import batched
from backbeat_celery.sql import columns
from backbeat_celery.sql.rows import new_node
from backbeat_celery.states import Status

ROWS_AT_ONCE = 1000
"""Rows that are made before they are written: a row takes several times a spec's memory."""


@dataclass(slots=True)
class Slot:
    """A new child's place in its parent's line."""

    spec: NodeSpec
    seq: int
    stage: int
    parent_id: UUID
    fires_at: datetime | None
    expires_at: datetime | None
    status: Status = Status.READY
    publish_at: datetime | None = None
    next_seq: int = 0
    next_stage: int = 0
    completes: bool = False
    """Whether it is a flag that is complete as soon as it is written."""

    @property
    def is_open(self) -> bool:
        """Whether it is a container whose turn has come."""
        return self.status == Status.WAITING


class Placement:
    """New children of one parent, in order."""

    def __init__(self, parent: Node, now: datetime) -> None:
        self.parent = parent
        self.now = now
        self.slots: list[Slot] = []
        self.below: list[Slot] = []
        """The places of the steps of containers, parents before children."""
        self.first: Node | None = None
        """The first child's row, once it is written."""
        self._spawned_by: int | None = None
        self._has_open_counting = True
        self._next_seq = parent.next_seq
        self._next_stage = parent.next_stage
        self._next_barrier = parent.next_barrier

    def add(self, specs: Iterable[NodeSpec], spawned_by: int | None) -> None:
        """Give each its place; `spawned_by` is the number of the attempt that did it."""
        self._spawned_by = spawned_by
        self.slots += [self._slot(spec) for spec in specs]

    def _slot(self, spec: NodeSpec) -> Slot:
        self._next_stage += spec.barrier
        slot = self._placed(spec, self._next_seq, self._next_stage, self.parent.pk)
        self._next_seq += 1
        self._next_stage += spec.is_blocking
        return slot

    def _placed(self, spec: NodeSpec, seq: int, stage: int, parent_id: UUID) -> Slot:
        now = self.now
        return Slot(spec, seq, stage, parent_id, spec.due_at(now), spec.expires(now))

    def assign(self, status: Status) -> None:
        """Give all of them one status: they wait for the parent's handler, or for their stage."""
        for slot in self.slots:
            slot.status = status
        self._note_barrier()
        self._place_below()

    def assign_statuses(self, *, blocked: bool = False, has_open_counting: bool = False) -> None:
        """Give each its status by the rules of order.

        `blocked`: something unfinished before them holds back what follows;
        `has_open_counting`: something before them that counts is unfinished.
        """
        self._has_open_counting = self._have_turns(self.slots, blocked, has_open_counting)
        self._note_barrier()
        self._place_below()

    def _have_turns(self, slots: Sequence[Slot], blocked: bool, has_open_counting: bool) -> bool:
        """Give siblings their statuses; tell whether one that counts is unfinished."""
        flags_go = self._flags_may_complete()
        for slot in slots:
            spec = slot.spec
            has_turn = not blocked and not (spec.barrier and has_open_counting)
            slot.status = Status.QUEUED if has_turn else Status.READY
            if has_turn and spec.is_flag and flags_go and is_due(slot.fires_at, self.now):
                slot.completes = True
                continue
            if has_turn:
                self._give_turn(slot)
            blocked = blocked or spec.is_blocking
            has_open_counting = has_open_counting or spec.counts
        return has_open_counting

    def _give_turn(self, slot: Slot) -> None:
        if slot.spec.container:
            slot.status = Status.WAITING
            return
        times = turn_times(slot.spec.options, self.now)
        slot.fires_at = times.get("fires_at", slot.fires_at)
        slot.expires_at = times.get("expires_at", slot.expires_at)
        is_flag = slot.spec.is_flag
        slot.publish_at = publish_at(slot.fires_at, self.now, is_flag=is_flag)

    def _place_below(self) -> None:
        """Give places to the steps of containers, those of containers in them included."""
        self.below = []
        holders = deque(slot for slot in self.slots if slot.spec.container)
        while holders:
            holder = holders.popleft()
            stage, placed = 0, []
            for seq, spec in enumerate(holder.spec.children):
                placed.append(self._placed(spec, seq, stage, holder.spec.id))
                stage += spec.is_blocking
            holder.next_seq, holder.next_stage = len(placed), stage
            if holder.is_open:
                self._have_turns(placed, blocked=False, has_open_counting=False)
            else:
                for slot in placed:
                    slot.status = Status.PENDING
            self.below += placed
            holders.extend(slot for slot in placed if slot.spec.container)

    def _flags_may_complete(self) -> bool:
        return any(slot.spec.is_flag for slot in self.slots) and not is_paused(self.parent)

    def _note_barrier(self) -> None:
        if self._next_barrier is None:
            barriers = (slot for slot in self.slots if slot.spec.barrier)
            held = (slot.seq for slot in barriers if slot.status != Status.QUEUED)
            self._next_barrier = next(held, None)

    def counters(self) -> dict[str, Any]:
        """The parent's columns that the new children change."""
        return {
            "next_seq": self._next_seq,
            "next_stage": self._next_stage,
            "next_barrier": self._next_barrier,
        }

    def insert(self) -> AfterCommit:
        """Write the rows; the caller has written the parent's counters."""
        flags: list[Node] = []
        for some in batched(chain(self.slots, self.below), ROWS_AT_ONCE):
            flags += self._write(some)
        failpoints.hit("children_inserted")
        # Made at once, after the rows: what stays between things that go leaves holes in memory.
        after_commit = AfterCommit(publications=self._publications())
        complete_flags(flags)
        after_commit.announcements.completed += [flag.pk for flag in flags]
        # A barrier added while the last one before it ended was not seen by that one's look.
        has_held_barrier = any(
            slot.spec.barrier and slot.status == Status.READY for slot in self.slots
        )
        if has_held_barrier or not self._has_open_counting:
            after_commit.maybe_complete.append(self.parent.pk)
        after_commit.maybe_complete += [
            slot.spec.id
            for slot in chain(self.slots, self.below)
            if slot.is_open and not slot.next_seq
        ]
        return after_commit

    def _write(self, slots: Sequence[Slot]) -> list[Node]:
        """Write some of the rows; give those of flags that are to be completed."""
        rows = [self._row(slot) for slot in slots]
        insert(rows)
        if self.first is None:
            self.first = rows[0]
        return [row for slot, row in zip(slots, rows, strict=True) if slot.completes]

    def _publications(self) -> list[Publication]:
        horizon = settings.publish_horizon
        all_slots = chain(self.slots, self.below)
        due = (p for p in all_slots if p.status == Status.QUEUED and not p.spec.is_flag)
        waits = ((slot.spec, seconds_until(slot.fires_at, self.now)) for slot in due)
        return [Publication.first(spec, wait) for spec, wait in waits if wait <= horizon]

    def _row(self, slot: Slot) -> Node:
        spec, parent_id = slot.spec, slot.parent_id
        return new_node(
            self.parent.alias,
            id=spec.id,
            workflow_id=self.parent.workflow_id,
            parent_id=parent_id,
            awaited_by=parent_id if spec.counts else None,
            seq=slot.seq,
            stage=slot.stage,
            status=slot.status,
            spawned_by=self._spawned_by,
            fires_at=slot.fires_at,
            expires_at=slot.expires_at,
            publish_at=slot.publish_at,
            created_at=self.now,
            next_seq=slot.next_seq,
            next_stage=slot.next_stage,
            **columns.of(spec),
        )

"""Children of a node that are in the line: whose turn it is.

Rules (docs/ordering.md tells them with pictures): a stage opens when the blocking child
before it is finished; a barrier waits for every earlier sibling that counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from uuid import UUID

from django.db.models import BigIntegerField, Subquery, Value
from django.db.models.functions import Coalesce

from backbeat_celery.engine.after_commit import AT_ONCE, AfterCommit, ChildRange, publications_due
from backbeat_celery.engine.order.waiting_graph import siblings_ahead
from backbeat_celery.engine.publish_times import (
    after_a_lease,
    at_the_next_sweep,
    is_due,
    publish_at_by_row,
    turn_times,
)
from backbeat_celery.inputs.node_spec import TURN
from backbeat_celery.models import Node, Workflow
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.models.transitions import transition_all
from backbeat_celery.runtime import clock, failpoints
from backbeat_celery.states import Outcome, Status

END_OF_LINE = 2**62
TURN_CAME = "its turn came"
"""The reason of a container's step into `waiting`."""


def open_ready(parent: Node, floor: int, now: datetime) -> AfterCommit:
    """Queue the ready children after seq `floor` whose turn has come.

    The caller holds the parent's row lock, and nothing blocking up to `floor` is unfinished.
    Containers among them open: their first steps are queued as well.
    """
    after_commit = AfterCommit()
    openings = deque([_Opening(parent, now, floor)])
    while openings:
        opening = openings.popleft()
        opening.run()
        after_commit += opening.after_commit
        openings.extend(_Opening(row, now, -1, Status.PENDING) for row in opening.containers)
    failpoints.hit("stage_opened")
    return after_commit


class _Opening:
    """Children of one parent whose turn comes, some at a time."""

    def __init__(
        self, parent: Node, now: datetime, floor: int, waits_as: Status = Status.READY
    ) -> None:
        self.after_commit = AfterCommit()
        self.holds = False
        """Whether something was queued that the parent waits for."""
        self.containers: list[Node] = []
        """Containers that have opened: what is in them is still pending."""
        self._parent = parent
        self._now = now
        self._floor = floor
        self._waits_as = waits_as
        """What children are until they have their turn."""
        self._stages = 1
        self._is_paused: bool | None = None
        self._flags: list[Node] = []
        self._queued: list[Node] = []
        self._opened: list[Node] = []

    def run(self) -> None:
        """Open what may be."""
        floor: int | None = self._floor
        while floor is not None:
            floor = self._open_some(floor)
        if self._waits_as == Status.PENDING:
            make_ready(self._parent)
        if not self.holds:
            self.after_commit.maybe_complete.append(self._parent.pk)

    def _open_some(self, floor: int) -> int | None:
        """Open what may be after `floor`; give the floor to go on from, None if that was all."""
        rows = list(_turn(self._parent, floor, self._stages, self._waits_as))
        # By the rules none is there; a line that is out of order must not be run through.
        bound = (
            _first_begun(self._parent, floor, rows[-1].seq, self._waits_as)
            if self._stages > 1 and rows
            else None
        )
        goes_on = all((bound is None or row.seq < bound) and self._take(row) for row in rows)
        self._write()
        if not rows or not goes_on:
            return None
        if rows[-1].is_blocking:
            # Behind a flag there may be more of them: a long run takes few statements.
            self._stages = min(self._stages * 10, AT_ONCE)
            return rows[-1].seq
        return rows[-1].seq if len(rows) == AT_ONCE else None

    def _take(self, row: Node) -> bool:
        """Let a child have its turn, and tell whether what is behind it has its turn, too."""
        if row.barrier and not self._passes(row):
            return False
        if row.is_flag and is_due(row.fires_at, self._now) and not self._paused():
            self._flags.append(row)
            return True
        (self._opened if row.is_container else self._queued).append(row)
        return not row.is_blocking

    def _passes(self, barrier: Node) -> bool:
        self._write()
        if not _is_clear_before(self._parent, barrier.seq):
            return False
        move_barrier(self._parent, barrier.seq)
        return True

    def _paused(self) -> bool:
        if self._is_paused is None:
            self._is_paused = is_paused(self._parent)
        return self._is_paused

    def _write(self) -> None:
        flags, queued, opened = self._flags, self._queued, self._opened
        self._flags, self._queued, self._opened = [], [], []
        _queue(queued, self._now)
        complete_flags(flags)
        transition_all(opened, Status.WAITING, reason=TURN_CAME)
        self.containers += opened
        self.after_commit.announcements.completed += [flag.pk for flag in flags]
        self.holds = self.holds or any(row.counts for row in (*queued, *opened))
        if len(self.after_commit.publications) < AT_ONCE:
            self.after_commit.publications += publications_due(queued, self._now)
        elif queued:
            child_range = ChildRange(self._parent.pk, queued[0].seq, queued[-1].seq)
            self.after_commit.child_ranges.append(child_range)


def open_behind(parent: Node, seq: int, now: datetime) -> AfterCommit:
    """Queue what stood behind a blocking child at `seq` that does not hold it back any more.

    The caller holds the parent's row lock. Nothing opens while an earlier one still blocks.
    """
    ahead = siblings_ahead(parent.pk, seq, barrier=False, using=parent.alias)
    if ahead.first_awaited():
        return AfterCommit()
    return open_ready(parent, seq - 1, now)


def queue_paused(
    rows: Sequence[Node], *, actor: str = "", reason: str = "resumed", later: bool = False
) -> AfterCommit:
    """Queue paused nodes of a workflow that goes on, in the caller's transaction.

    The rows are read with their time. `later`: the sweeper publishes them, at its next pass.
    """
    if not rows:
        return AfterCommit()
    tasks = [row for row in rows if not row.is_flag]
    flags = [row for row in rows if row.is_flag]
    said = {"actor": actor, "reason": reason}
    publish_at = at_the_next_sweep() if later else after_a_lease()
    transition_all(tasks, Status.QUEUED, publish_at=publish_at, publish_count=0, **said)
    transition_all(flags, Status.QUEUED, publish_at=clock.now(), publish_count=0, **said)
    if later:
        return AfterCommit()
    messages = publications_due(tasks, rows[0].db_now)
    return AfterCommit(publications=messages, due_flags=[flag.pk for flag in flags])


def has_blocking_before(parent: Node) -> bool:
    """Tell whether an unfinished blocking child holds back what is added to the line's end."""
    return bool(_awaited(parent).blocking().first_awaited())


def has_counting_before(parent: Node) -> bool:
    """Tell whether an unfinished child that counts stands before the line's end."""
    return bool(_awaited(parent).first_awaited())


def next_turn(parent: Node, child: Node, gone: Collection[UUID] = ()) -> list[Node]:
    """Children behind one whose turn comes once that is gone; read without a lock.

    At most `AT_ONCE` are given. Of a run of flags it is the first; of a container it is what
    opens in it. `gone` are nodes that are canceled before that.
    """
    rows = _in_turn(parent, child.seq, 1, Status.READY, gone).without_payload()[:AT_ONCE]
    return _opened(_up_to_barrier(parent, rows, child), gone)


def first_turn(parent: Node, gone: Collection[UUID] = ()) -> list[Node]:
    """Children that wait for their parent's handler, and have their turn once that is done."""
    rows = _in_turn(parent, -1, 1, Status.PENDING, gone).without_payload()[:AT_ONCE]
    return _opened(_up_to_barrier(parent, rows, None), gone)


def _opened(rows: Iterable[Node], gone: Collection[UUID]) -> list[Node]:
    """Put what opens in containers in their place; an empty one stands for itself."""
    found: list[Node] = []
    ahead = [*rows][::-1]
    while ahead and len(found) < AT_ONCE:
        row = ahead.pop()
        steps = row.is_container and list(
            _in_turn(row, -1, 1, Status.PENDING, gone).without_payload()[:AT_ONCE]
        )
        if steps:
            ahead += steps[::-1]
        else:
            found.append(row)
    return found


def _up_to_barrier(parent: Node, rows: Iterable[Node], but: Node | None) -> list[Node]:
    found: list[Node] = []
    for row in rows:
        if row.barrier and not _is_clear_before(parent, row.seq, but):
            break
        found.append(row)
    return found


def is_barrier_clear(parent: Node) -> bool:
    """Tell whether a parent has a barrier with nothing that counts unfinished before it."""
    return parent.next_barrier is not None and _is_clear_before(parent, parent.next_barrier)


def _children(parent: Node) -> NodeQuerySet:
    return Node.objects.using(parent.alias).children_of(parent.pk)


def _awaited(parent: Node) -> NodeQuerySet:
    return Node.objects.using(parent.alias).awaited_by(parent.pk)


def _turn(parent: Node, floor: int, stages: int, status: Status) -> NodeQuerySet:
    """Waiting children from `floor` to the so-manieth unfinished blocking one, locked."""
    ready = _in_turn(parent, floor, stages, status).defer("result", "error", "metadata")
    return ready.locked()[:AT_ONCE]


def _in_turn(
    parent: Node, floor: int, stages: int, status: Status, gone: Collection[UUID] = ()
) -> NodeQuerySet:
    after = _children(parent).filter(seq__gt=floor)
    blocking = _awaited(parent).blocking().filter(seq__gt=floor).order_by("seq")
    if gone:
        after, blocking = after.exclude(pk__in=gone), blocking.exclude(pk__in=gone)
    bound = blocking.values("seq")[stages - 1 : stages]
    last = Coalesce(Subquery(bound), Value(END_OF_LINE), output_field=BigIntegerField())
    return after.filter(status=status, seq__lte=last).order_by("seq")


def _first_begun(parent: Node, floor: int, until: int, status: Status) -> int | None:
    """The place of a blocking child in that range whose turn has come before, if any."""
    between = _awaited(parent).blocking().filter(seq__gt=floor, seq__lte=until)
    begun = between.exclude(status=status).order_by("seq")
    return begun.values_list("seq", flat=True).first()


def is_paused(parent: Node) -> bool:
    """Tell whether a node's workflow is paused."""
    workflows = Workflow.objects.using(parent.alias).filter(pk=parent.workflow_id)
    return workflows.filter(paused_at__isnull=False).exists()


def _is_clear_before(parent: Node, seq: int, but: Node | None = None) -> bool:
    before = siblings_ahead(parent.pk, seq, barrier=True, using=parent.alias)
    return not (before if but is None else before.exclude(pk=but.pk)).exists()


def move_barrier(parent: Node, seq: int) -> None:
    """Note the next barrier behind the one at `seq`, which is open or gone."""
    following = _children(parent).filter(barrier=True, seq__gt=seq).unfinished()
    parent.next_barrier = following.order_by("seq").values_list("seq", flat=True).first()
    rows = Node.objects.using(parent.alias).filter(pk=parent.pk)
    rows.update(next_barrier=parent.next_barrier)


def make_ready(parent: Node) -> None:
    """Let the children that still wait for their parent to begin wait for their turn."""
    pending = _children(parent).filter(status=Status.PENDING).without_payload().order_by("seq")
    last = -1
    while rows := list(pending.filter(seq__gt=last).locked()[:AT_ONCE]):
        transition_all(rows, Status.READY)
        last = rows[-1].seq


def _queue(rows: Sequence[Node], now: datetime) -> None:
    timed = [row for row in rows if TURN in row.options]
    for row in timed:
        _note_times(row, now)
    for group, publish_at in publish_at_by_row(rows, now):
        transition_all(group, Status.QUEUED, publish_at=publish_at)


def _note_times(row: Node, now: datetime) -> None:
    """Set the times of a node that count from its turn."""
    times = turn_times(row.options, now)
    row.fires_at = times.get("fires_at", row.fires_at)
    row.expires_at = times.get("expires_at", row.expires_at)
    Node.objects.using(row.alias).filter(pk=row.pk).update(**times)


def complete_flags(flags: Sequence[Node]) -> None:
    """Complete flags whose turn and time have come."""
    for status in (Status.QUEUED, Status.READY, Status.PENDING):
        due = [flag for flag in flags if flag.status == status]
        transition_all(due, Status.COMPLETE, outcome=Outcome.SUCCEEDED, reason="flag is due")

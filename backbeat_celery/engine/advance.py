"""Advance the tree after a commit: publish what became due, complete the parents.

Every step is idempotent and guarded, so that signal receivers, sweepers and other workers may
run it for the same nodes at the same time.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from uuid import UUID

from django.db.models import Q

from backbeat_celery.engine.after_commit import (
    ADVANCE,
    AfterCommit,
    Announcements,
    called_task,
    options_of,
    rebuild_after_commit,
)
from backbeat_celery.engine.announcements import announce, is_wanted
from backbeat_celery.engine.delivery.bundling import bundled
from backbeat_celery.engine.delivery.outbox import outbox
from backbeat_celery.engine.delivery.routing import known_queue
from backbeat_celery.engine.delivery.wide_stages import messages_of
from backbeat_celery.engine.order.finish import complete_flag, finish, lock_node
from backbeat_celery.engine.order.links import has_open_link
from backbeat_celery.engine.order.turns import is_barrier_clear, move_barrier, open_ready
from backbeat_celery.engine.publish_times import is_due
from backbeat_celery.engine.statements import completion as postgres
from backbeat_celery.models import Link, Node, Workflow
from backbeat_celery.models.querysets import PAYLOAD
from backbeat_celery.models.transitions import StaleNode
from backbeat_celery.runtime import failpoints
from backbeat_celery.runtime.batches import batched
from backbeat_celery.runtime.lock_timeouts import RowLocked, step
from backbeat_celery.runtime.transactions import repeat, repeat_on
from backbeat_celery.states import Outcome, Status

MAX_STEPS = 100
"""Steps of one call: the rest is handed to other workers, so that no task call lasts long."""


def advance(after_commit: AfterCommit, using: str, *, waits: bool = True) -> None:
    """Do the work for after a commit and what follows from it, up to the root if necessary.

    More than MAX_STEPS steps are handed to other workers by messages. With `waits=False` an
    outage of the database is not waited for. What is left undone, the sweeper finds.
    """
    failpoints.hit("before_advance")
    pending, left = deque([after_commit]), MAX_STEPS
    announcements, rest = Announcements(), AfterCommit()
    while pending:
        after_commit = pending.popleft()
        _publish(after_commit, using)
        announcements += after_commit.announcements
        if after_commit.ended_signals:
            after_commit.maybe_complete += _linked_to(after_commit.ended_signals, using)
        flags, nodes = after_commit.due_flags, list(dict.fromkeys(after_commit.maybe_complete))
        steps = [partial(complete_due_flag, pk, using) for pk in flags]
        steps += [partial(try_complete, pk, using, waits=waits) for pk in nodes]
        pending += [more for step in steps[:left] if (more := step())]
        rest.due_flags += flags[left:]
        rest.maybe_complete += nodes[max(0, left - len(flags)) :]
        left = max(0, left - len(steps))
    _delegate(rest, using)
    # Last, since a receiver may be slow.
    announce(announcements, using)


def is_needed(after_commit: AfterCommit) -> bool:
    """Tell whether `advance` would do anything, without opening a database session."""
    return after_commit.has_work or is_wanted(after_commit.announcements)


def _publish(after_commit: AfterCommit, using: str) -> None:
    if after_commit.publications:
        outbox().send(bundled(after_commit.publications), using)
    for child_range in after_commit.child_ranges:
        for publications in messages_of(child_range, using):
            outbox().send(bundled(publications), using)


def _delegate(rest: AfterCommit, using: str) -> None:
    """Send the remaining steps to other workers, on a queue that they consume."""
    if not rest:
        return
    queue = _queue_of([*rest.due_flags, *rest.maybe_complete], using)
    for name in ("due_flags", "maybe_complete"):
        ids = [str(pk) for pk in dict.fromkeys(getattr(rest, name))]
        for some in batched(ids, MAX_STEPS):
            outbox().call_task(ADVANCE, queue, using=using, **{name: some})


def _queue_of(node_ids: list[UUID], using: str) -> str:
    """The queue of one of these nodes; empty for the default queue of the task `ADVANCE`."""
    tasks = Node.objects.using(using).filter(pk__in=node_ids[:MAX_STEPS]).exclude(task="")
    node = tasks.only("task", "remote", "options").first()
    return known_queue(called_task(node), options_of(node)) if node is not None else ""


def advance_after_commit(after_commit: AfterCommit, using: str) -> None:
    """Advance when the surrounding transaction is committed; never if it is rolled back.

    This may run in a web request, so it does not wait for a database outage to end.
    """
    if after_commit:
        outbox().on_commit(lambda: advance(after_commit, using, waits=False), using)


def _linked_to(signals: list[UUID], using: str) -> list[UUID]:
    found = postgres.linked_to(signals, using)
    if found is None:
        links = Link.objects.using(using).filter(target__in=signals)
        found = list(links.values_list("source_id", flat=True))
    return found


def complete_due_flag(flag_id: UUID, using: str) -> AfterCommit:
    """Complete a flag whose time has come."""
    rows = Node.objects.using(using).filter(pk=flag_id, status=Status.QUEUED)
    flag = rows.filter(workflow__paused_at=None).without_payload().with_time().first()
    if flag is None or not is_due(flag.fires_at, flag.db_now):
        return AfterCommit()
    try:
        return repeat_on(flag, complete_flag, using=using)
    except (StaleNode, RowLocked):
        return AfterCommit()  # another process has completed it, or a later sweep will


def try_complete(node_id: UUID, using: str, *, waits: bool = True) -> AfterCommit:
    """Complete a waiting node if none of its children and links is open, or open its barrier.

    This runs after the commit of a child's end. So the process that commits last sees that all
    other children are finished, and no write on the parent is needed to count them.
    """
    is_repeated = False

    def once() -> AfterCommit:
        nonlocal is_repeated
        if not is_repeated and postgres.is_settled(node_id, using):
            failpoints.hit("looked")
            return AfterCommit()
        after_commit = AfterCommit()
        if is_repeated:
            # The first try may have been committed although its answer was lost.
            after_commit = rebuild_after_commit(node_id, using, only_barriers=True)
        is_repeated = True
        while not _try_complete_once(node_id, using, after_commit):
            pass
        return after_commit

    # Repeated also after an outage: this is idempotent, and the record before it succeeded.
    return repeat(once, using=using, outage=waits)


def _try_complete_once(node_id: UUID, using: str, after_commit: AfterCommit) -> bool:
    """Add the work for after the commit; False if the node was changed in between."""
    node = _read_waiting(node_id, using)
    failpoints.hit("looked")
    if node is None:
        return True
    try:
        after_commit += _open_barrier(node)
        is_open = node.open_child is not None
        if is_open or has_open_link(node, settle=True) or not _may_complete(node):
            return True
        with step(using):
            # A child or a link that was added since the read has raised next_seq.
            unchanged = Q(next_seq=node.next_seq)
            # A node that was resolved or shut down already has its outcome.
            outcome = Outcome(node.outcome or Outcome.SUCCEEDED)
            after_commit += finish(node, outcome=outcome, guard=unchanged)
    except StaleNode:
        return False
    except RowLocked:
        return True  # a later sweep tries again
    failpoints.hit("joined")
    return True


def _read_waiting(node_id: UUID, using: str) -> Node | None:
    # The options say what is called once it is complete.
    rows = Node.objects.using(using).filter(pk=node_id).defer(*PAYLOAD)
    node = rows.with_open_child().with_time().first()
    return node if node is not None and node.status == Status.WAITING else None


def _may_complete(node: Node) -> bool:
    """A root waits for its workflow to be closed, any other node only for its edges."""
    if not node.is_root:
        return True
    workflows = Workflow.objects.using(node.alias).filter(pk=node.workflow_id)
    return workflows.filter(closed_at__isnull=False).exists()


def _open_barrier(node: Node) -> AfterCommit:
    if node.next_barrier is None or not is_barrier_clear(node):
        return AfterCommit()
    using = node.alias
    with step(using):
        parent, now = lock_node(node.pk, using)
        if parent.next_barrier != node.next_barrier:
            return AfterCommit()
        after_commit = open_ready(parent, node.next_barrier - 1, now)
        if parent.next_barrier == node.next_barrier:
            move_barrier(parent, node.next_barrier)
        failpoints.hit("barrier_opened")
    return after_commit

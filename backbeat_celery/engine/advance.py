"""Advance the tree after a commit: publish what became due, complete the parents.

Every step is idempotent and guarded, so that hooks, sweepers and other workers may all
run it for the same nodes at once.
"""

from __future__ import annotations

from collections import deque
from uuid import UUID

from django.db.models import Q

from backbeat_celery import points
from backbeat_celery.database import repeat, repeat_on
from backbeat_celery.engine.again import wake_again
from backbeat_celery.engine.announce import announce
from backbeat_celery.engine.bundling import bundled
from backbeat_celery.engine.children import is_barrier_clear, move_barrier, open_ready
from backbeat_celery.engine.finish import complete_flag, finish, lock_node
from backbeat_celery.engine.postgres import look as postgres
from backbeat_celery.engine.publish import outbox
from backbeat_celery.engine.wake import Ended, Wake, is_due
from backbeat_celery.locks import RowHeld, step
from backbeat_celery.models import Link, Node, Workflow
from backbeat_celery.states import FINISHED, Outcome, Status
from backbeat_celery.transitions import StaleNode


def advance(wake: Wake, using: str, *, waits: bool = True) -> None:
    """Do what `wake` says, and what follows from that, up to the root if need be.

    Where nobody `waits` for a database that is away, the sweeper does the rest.
    """
    points.reached("before_advance")
    pending, news = deque([wake]), Ended()
    while pending:
        wake = pending.popleft()
        if wake.publications:
            outbox().send(bundled(wake.publications), using)
        if wake.ended_signals:
            wake.look_at += _linked_to(wake.ended_signals, using)
        pending += [due for flag_id in wake.due_flags if (due := _settle_flag(flag_id, using))]
        for node_id in dict.fromkeys(wake.look_at):
            if following := look(node_id, using, waits=waits):
                pending.append(following)
        news += wake.news
    # Last, since a receiver may take its time.
    announce(news, using)


def advance_after_commit(wake: Wake, using: str) -> None:
    """Advance once the surrounding transaction is committed; never, if it is rolled back.

    This may be in a web request, where a look must not hold anybody up.
    """
    if wake:
        outbox().after_commit(lambda: advance(wake, using, waits=False), using)


def _linked_to(signals: list[UUID], using: str) -> list[UUID]:
    found = postgres.linked_to(signals, using)
    if found is None:
        links = Link.objects.using(using).filter(target__in=signals)
        found = list(links.values_list("source_id", flat=True))
    return found


def _settle_flag(flag_id: UUID, using: str) -> Wake:
    rows = Node.objects.using(using).filter(pk=flag_id, status=Status.QUEUED)
    flag = rows.filter(workflow__paused_at=None).without_payload().with_time().first()
    if flag is None or not is_due(flag.fires_at, flag.db_now):
        return Wake()
    try:
        return repeat_on(flag, complete_flag, using=using)
    except (StaleNode, RowHeld):
        return Wake()  # somebody else was faster, or a later sweep is


def look(node_id: UUID, using: str, *, waits: bool = True) -> Wake:
    """Complete a waiting node if nothing it waits for is open; open its barrier if that is clear.

    The look comes after the commit of the child's end. So whoever commits last sees all the
    others finished, and no write on the parent is needed to count them.
    """

    is_repeated = False

    def once() -> Wake:
        nonlocal is_repeated
        if not is_repeated and postgres.is_settled(node_id, using):
            points.reached("looked")
            return Wake()
        # The try before may have been committed without an answer.
        wake = wake_again(node_id, using, only_barriers=True) if is_repeated else Wake()
        is_repeated = True
        while True:
            node = (
                Node.objects.using(using)
                .filter(pk=node_id)
                .without_payload()
                .with_open_child()
                .with_time()
                .first()
            )
            points.reached("looked")
            if node is None or node.status != Status.WAITING:
                return wake
            try:
                wake += _open_barrier(node)
                is_open = node.open_child is not None
                if is_open or has_open_link(node) or not _may_complete(node):
                    return wake
                with step(using):
                    # A child or a link added since the look has raised next_seq.
                    unchanged = Q(next_seq=node.next_seq)
                    # A node that was resolved or shut down has its outcome already.
                    outcome = Outcome(node.outcome or Outcome.SUCCEEDED)
                    wake += finish(node, outcome=outcome, guard=unchanged)
            except StaleNode:
                continue
            except RowHeld:
                return wake  # a later sweep looks again
            points.reached("joined")
            return wake

    # Also after an outage: a look may be repeated at any time, and the record just before
    # it went through.
    return repeat(once, using=using, outage=waits)


def has_open_link(node: Node) -> bool:
    """Tell whether a node still waits for a signal of another workflow.

    Two plain reads rather than a join, which PostgreSQL may begin at the wrong end: with all
    unfinished nodes of the table.
    """
    using = node.alias
    targets = Link.objects.using(using).filter(source_id=node.pk).values_list("target_id")
    target_ids = [target_id for (target_id,) in targets]
    if not target_ids:
        return False
    rows = Node.objects.using(using).filter(pk__in=target_ids).values_list("status", flat=True)
    return any(status not in FINISHED for status in rows)


def _may_complete(node: Node) -> bool:
    """A root waits for its workflow to be closed, any other node only for its edges."""
    if not node.is_root:
        return True
    workflows = Workflow.objects.using(node.alias).filter(pk=node.workflow_id)
    return workflows.filter(closed_at__isnull=False).exists()


def _open_barrier(node: Node) -> Wake:
    if node.next_barrier is None or not is_barrier_clear(node):
        return Wake()
    using = node.alias
    with step(using):
        parent, now = lock_node(node.pk, using)
        if parent.next_barrier != node.next_barrier:
            return Wake()
        wake = open_ready(parent, node.next_barrier - 1, now)
        if parent.next_barrier == node.next_barrier:
            move_barrier(parent, node.next_barrier)
        points.reached("barrier_opened")
    return wake

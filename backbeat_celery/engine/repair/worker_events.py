"""Events that a worker's main process notices: handle them now instead of at the next sweep.

They are handled in the thread that renews the worker's leases. It waits for no lock: if the
node's row is locked, the function raises RowLocked and has to be called again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from backbeat_celery.conf import settings
from backbeat_celery.engine.advance import advance
from backbeat_celery.engine.after_commit import DISPATCH, AfterCommit
from backbeat_celery.engine.claim import NodeMessage
from backbeat_celery.engine.delivery.make_due import make_due
from backbeat_celery.engine.repair.sweep import give_back, lose, time_out
from backbeat_celery.models import Node
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.models.transitions import StaleNode
from backbeat_celery.runtime import clock
from backbeat_celery.runtime.lock_timeouts import step, without_waiting
from backbeat_celery.runtime.transactions import repeat, repeat_on
from backbeat_celery.states import CLAIMABLE


def worker_lost(message: NodeMessage, *, in_shutdown: bool = False) -> None:
    """End the lease of an attempt whose process is gone, and the attempt with it.

    In a shutdown the attempt is given back and does not count.
    """
    if _write(_running(message), message.using, lease_expires_at=clock.now()):
        _end(message, give_back if in_shutdown else lose)


def hard_time_limit(message: NodeMessage, *, limit: float | None = None) -> None:
    """End an attempt that was killed at its hard time limit, in seconds, as failed."""
    if _write(_running(message), message.using, times_out_at=clock.now()):
        _end(message, partial(time_out, limit=limit))


def message_dropped(message: NodeMessage) -> None:
    """Have another message sent for a node whose message was dropped."""
    with without_waiting():
        make_due([message.node_id], message.using)


def unknown_task(message: NodeMessage) -> None:
    """Start the time UNKNOWN_TASK_GRACE for a node whose task this worker does not know."""
    calls = Q(remote=True) if message.task == DISPATCH else Q(remote=False, task=message.task)
    rows = Node.objects.using(message.using).filter(
        calls,
        pk=message.node_id,
        status__in=CLAIMABLE,
        times_out_at=None,
    )
    _write(
        rows,
        message.using,
        times_out_at=clock.after(settings.unknown_task_grace),
        error=f"A worker has no task named {message.task!r}; is it deployed everywhere?",
    )


def renew(messages: Sequence[NodeMessage]) -> bool:
    """Renew the leases of running attempts; False if the row of one is locked.

    The sweeper does not end an attempt whose row is locked.
    """
    is_complete = True
    for using in {message.using for message in messages}:
        claims = [message.claim_id for message in messages if message.using == using]
        nodes = [message.node_id for message in messages if message.using == using]
        rows = Node.objects.using(using).filter(pk__in=nodes, claim_id__in=claims).with_lease()
        free = repeat(partial(_renew_free, rows, using), using=using)
        is_complete &= len(free) == len(nodes) or not rows.exclude(pk__in=free).exists()
    return is_complete


def _renew_free(rows: NodeQuerySet, using: str) -> Sequence[UUID]:
    """Renew the leases of those rows that are not locked; give their ids."""
    with transaction.atomic(using=using):
        free = list(rows.free().values_list("pk", flat=True))
        rows.filter(pk__in=free).update(lease_expires_at=clock.after(settings.lease))
    return free


def _running(message: NodeMessage) -> NodeQuerySet:
    current = Q(pk=message.node_id, claim_id=message.claim_id)
    return Node.objects.using(message.using).filter(current).with_lease()


def _write(rows: NodeQuerySet, using: str, **values: Any) -> int:
    def once() -> int:
        with without_waiting(), step(using):
            return rows.update(**values)

    return repeat(once, using=using)


def _end(message: NodeMessage, end: Callable[[Node], AfterCommit]) -> None:
    node = _running(message).with_time().first()
    if node is None:
        return
    try:
        with without_waiting():
            after_commit = repeat_on(node, end, using=message.using)
            advance(after_commit, message.using)
    except StaleNode:
        return  # another process has changed it

"""What a worker noticed of an attempt's end without a report: mend it now, not at the sweep."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import Q

from backbeat_celery import clock
from backbeat_celery.conf import settings
from backbeat_celery.database import repeat_on
from backbeat_celery.engine.advance import advance
from backbeat_celery.engine.claim import NodeMessage
from backbeat_celery.engine.publish import make_due
from backbeat_celery.engine.sweep import lose, time_out
from backbeat_celery.engine.wake import DISPATCH
from backbeat_celery.models import Node
from backbeat_celery.querysets import NodeQuerySet
from backbeat_celery.states import CLAIMABLE
from backbeat_celery.transitions import StaleNode


def died(message: NodeMessage) -> None:
    """The process that ran this attempt is gone: its lease ends now."""
    if _running(message).update(lease_expires_at=clock.now()):
        _mend(message, lost=True)


def overdue(message: NodeMessage) -> None:
    """The attempt was killed at its hard time limit: it counts as failed now."""
    if _running(message).update(times_out_at=clock.now()):
        _mend(message, lost=False)


def unpublished(message: NodeMessage) -> None:
    """The message was dropped: the node needs another one."""
    make_due([message.node_id], message.using)


def unknown_task(message: NodeMessage) -> None:
    """A worker does not know the node's task: from now on it has UNKNOWN_TASK_GRACE left."""
    calls = Q(remote=True) if message.task == DISPATCH else Q(remote=False, task=message.task)
    rows = Node.objects.using(message.using).filter(
        calls,
        pk=message.node_id,
        status__in=CLAIMABLE,
        times_out_at=None,
    )
    rows.update(
        times_out_at=clock.after(settings.unknown_task_grace),
        error=f"A worker has no task named {message.task!r}; is it deployed everywhere?",
    )


def renew(messages: Sequence[NodeMessage]) -> None:
    """Renew the leases of attempts that still run, one statement a database."""
    for using in {message.using for message in messages}:
        claims = [message.claim_id for message in messages if message.using == using]
        nodes = [message.node_id for message in messages if message.using == using]
        held = Node.objects.using(using).filter(pk__in=nodes, claim_id__in=claims).with_lease()
        held.update(lease_expires_at=clock.after(settings.lease))


def _running(message: NodeMessage) -> NodeQuerySet:
    current = Q(pk=message.node_id, claim_id=message.claim_id)
    return Node.objects.using(message.using).filter(current).with_lease()


def _mend(message: NodeMessage, *, lost: bool) -> None:
    node = _running(message).with_time().first()
    if node is None:
        return
    try:
        wake = repeat_on(node, lose if lost else time_out, using=message.using)
    except StaleNode:
        return  # somebody else was faster
    advance(wake, message.using)

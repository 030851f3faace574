"""Have the sweeper publish nodes again at its next pass."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from backbeat_celery.engine.publish_times import at_the_next_sweep
from backbeat_celery.models import Node
from backbeat_celery.runtime.lock_timeouts import RowLocked, step


def make_due(node_ids: Sequence[UUID], using: str) -> None:
    """Let the sweeper publish these nodes at its next pass, whatever their queue's depth."""
    rows = Node.objects.using(using).filter(pk__in=node_ids).claimable()
    with step(using):
        rows.update(publish_at=at_the_next_sweep())


def make_due_without_waiting(node_ids: Sequence[UUID], using: str) -> None:
    """Do the same, but skip locked nodes where the caller must not wait.

    The sweeper publishes those after their usual interval.
    """
    try:
        make_due(node_ids, using)
    except RowLocked:
        for node_id in node_ids if len(node_ids) > 1 else ():
            with suppress(RowLocked):
                make_due([node_id], using)

"""Republish due nodes that were not claimed, at growing intervals, and complete due flags."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress

from django.db import connections, transaction
from django.db.models import Exists, OuterRef, Q

from backbeat_celery.conf import settings
from backbeat_celery.engine.advance import advance
from backbeat_celery.engine.after_commit import AfterCommit, Publication
from backbeat_celery.engine.claim import pause_due
from backbeat_celery.engine.delivery.bundling import bundled
from backbeat_celery.engine.delivery.make_due import make_due
from backbeat_celery.engine.delivery.outbox import outbox
from backbeat_celery.engine.delivery.queue_depth import (
    MissingMessages,
    always_republish,
    find_missing_messages,
    is_counting_paused,
    maybe_undelivered,
)
from backbeat_celery.engine.order.finish import complete_flag
from backbeat_celery.engine.order.turns import queue_paused
from backbeat_celery.engine.publish_times import after_a_repetition, is_due
from backbeat_celery.models import Node, Workflow
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.models.transitions import StaleNode
from backbeat_celery.runtime import clock, failpoints
from backbeat_celery.runtime.lock_timeouts import RowLocked, step
from backbeat_celery.runtime.transactions import repeat, repeat_on

logger = logging.getLogger(__name__)

MOST_BATCHES = 20
"""Batches sent in one pass, so that a million due timers do not delay the other repairs."""


def publish_due(using: str, batch: int) -> int:
    """Send a message for each node whose next one is due; give the number of nodes processed."""
    done = 0
    for _ in range(MOST_BATCHES):
        rows = repeat(lambda: _select_due(using, batch), using=using)
        done += _process(rows, using)
        if len(rows) < batch:
            break
    return done + _publish_lost(using, batch)


def _publish_lost(using: str, batch: int) -> int:
    """Send another message for nodes whose last one may be lost, as the queues' depth shows."""
    if is_counting_paused(using) or not _due(using).filter(maybe_undelivered()).exists():
        return 0
    done = 0
    last: Node | None = None
    begun = time.monotonic()
    for _ in range(MOST_BATCHES):
        rows, last = _next_lost(using, batch, last)
        done += _process(rows, using)
        if last is None or _takes_long(begun):
            break
    return done


def _next_lost(using: str, batch: int, after: Node | None) -> tuple[list[Node], Node | None]:
    """Select a batch. Depths are read again, since other sweepers may publish as well."""
    missing = find_missing_messages(using)
    if not missing:
        return [], None
    return repeat(lambda: _select_lost(using, batch, missing, after), using=using)


def _takes_long(begun: float) -> bool:
    """Whether a pass has lasted an interval: then another sweeper may run beside it."""
    return not clock.is_simulated() and time.monotonic() - begun > settings.sweep_interval


def _process(rows: Iterable[Node], using: str) -> int:
    done = 0
    messages = []
    for row in rows:
        now = row.db_now
        if is_due(row.fires_at, now) and (row.is_flag or row.is_paused):
            done += _settle(row, using)
        elif not row.is_flag:
            messages.append(Publication.of(row, now))
    if messages:
        outbox().send(bundled(messages), using)
    return done + len(messages)


def _due(using: str) -> NodeQuerySet:
    """Nodes whose next message is due."""
    paused = Workflow.objects.filter(pk=OuterRef("workflow_id"), paused_at__isnull=False)
    nodes = Node.objects.using(using).filter(publish_at__lte=clock.now()).claimable()
    rows: NodeQuerySet = nodes.annotate(is_paused=Exists(paused))  # type: ignore[no-redef]
    return rows


def _select_due(using: str, batch: int) -> list[Node]:
    """Select rows that are due for a message, and postpone the message after it."""
    with transaction.atomic(using=using):
        rows = _locked(_due(using).filter(always_republish()), using, batch)
        _postpone(rows)
        failpoints.hit("put_off")
    failpoints.hit("taken_due")
    return rows


def _select_lost(
    using: str, batch: int, missing: MissingMessages, after: Node | None
) -> tuple[list[Node], Node | None]:
    """Do the same for rows whose message may be lost; give also the last row that was read."""
    due = _due(using).filter(maybe_undelivered())
    if after is not None:
        same = Q(publish_at=after.publish_at, pk__gt=after.pk)
        due = due.filter(Q(publish_at__gt=after.publish_at) | same)
    with transaction.atomic(using=using):
        seen = _locked(due, using, batch)
        rows = missing.select(seen)
        _postpone(rows)
        failpoints.hit("put_off")
    failpoints.hit("taken_due")
    return rows, seen[-1] if len(seen) == batch else None


def _locked(due: NodeQuerySet, using: str, batch: int) -> list[Node]:
    skip = connections[using].features.has_select_for_update_skip_locked
    rows = due.with_time().order_by("publish_at", "pk").select_for_update(skip_locked=skip)
    return list(rows[:batch])


def _postpone(rows: Iterable[Node]) -> None:
    groups: dict[tuple[int, bool], list[Node]] = defaultdict(list)
    for row in rows:
        groups[row.publish_count, is_due(row.fires_at, row.db_now)].append(row)
    for (publications, due), group in groups.items():
        publish_at = after_a_repetition(publications, is_due=due)
        nodes = Node.objects.using(group[0].alias).filter(pk__in=[row.pk for row in group])
        nodes.update(publish_count=publications + 1, publish_at=publish_at)


def _settle(row: Node, using: str) -> int:
    """Pause a due node of a paused workflow, or complete a due flag."""
    try:
        if row.is_paused:
            pause_due(row)
        else:
            advance(repeat_on(row, complete_flag, using=using), using)
    except (StaleNode, RowLocked):
        # It was resumed or changed by another process, or its parent is locked.
        with suppress(RowLocked):
            make_due([row.pk], using)
        return 0
    except Exception:  # the messages of the other rows still have to be sent
        logger.exception("Cannot settle node %s", row.pk, extra={"node_id": row.pk})
        return 0
    return 1


def requeue(node: Node) -> AfterCommit:
    """Queue a paused node of a workflow that is not paused."""
    with step(node.alias):
        return queue_paused([node])

"""Publish again what is due and not claimed, at growing intervals, and complete due flags."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta

from django.db import connections, transaction
from django.db.models import DateTimeField, Exists, ExpressionWrapper, F, OuterRef

from backbeat_celery import clock
from backbeat_celery.conf import settings
from backbeat_celery.database import repeat, repeat_on
from backbeat_celery.engine.advance import advance
from backbeat_celery.engine.claim import pause_due
from backbeat_celery.engine.finish import finish
from backbeat_celery.engine.publish import outbox
from backbeat_celery.engine.wake import Publication, Wake, is_due
from backbeat_celery.models import Node, Workflow
from backbeat_celery.states import Outcome, Status
from backbeat_celery.transitions import StaleNode, transition

logger = logging.getLogger(__name__)

MOST_BATCHES = 20
"""Batches sent in one pass; a million timers due at once must not hold up the other repairs."""

LONGEST_INTERVAL = 600.0
"""Seconds between two messages for a node that stays queued."""


def publish_due(using: str, batch: int) -> int:
    """Send a message for each node whose time for one has come; give how many were seen to."""
    done = 0
    for _ in range(MOST_BATCHES):
        rows = repeat(lambda: _take_due(using, batch), using=using)
        done += _see_to(rows, using)
        if len(rows) < batch:
            break
    return done


def _see_to(rows: Iterable[Node], using: str) -> int:
    done = 0
    messages = []
    for row in rows:
        now = row.db_now
        if is_due(row.fires_at, now) and (row.is_flag or row.is_paused):
            done += _settle(row, using)
        elif not row.is_flag:
            messages.append(Publication.of(row, now))
    if messages:
        outbox().send(messages, using)
    return done + len(messages)


def _take_due(using: str, batch: int) -> list[Node]:
    """Take rows that are due for a message and put their next message off."""
    paused = Workflow.objects.filter(pk=OuterRef("workflow_id"), paused_at__isnull=False)
    skip = connections[using].features.has_select_for_update_skip_locked
    with transaction.atomic(using=using):
        rows = list(
            Node.objects.using(using)
            .filter(publish_at__lte=clock.now())
            .claimable()
            .with_time()
            .annotate(is_paused=Exists(paused))  # type: ignore[no-redef]
            .order_by("publish_at")
            .select_for_update(skip_locked=skip)[:batch]
        )
        _put_off(rows)
    return rows


def _put_off(rows: Iterable[Node]) -> None:
    groups: dict[tuple[int, bool], list[Node]] = defaultdict(list)
    for row in rows:
        groups[row.publications, is_due(row.fires_at, row.db_now)].append(row)
    for (publications, due), group in groups.items():
        interval = min(settings.lease * 2.0 ** min(publications, 16), LONGEST_INTERVAL)
        later = F("fires_at") + timedelta(seconds=interval)
        publish_at = (
            clock.after(interval)
            if due
            else ExpressionWrapper(later, output_field=DateTimeField())
        )
        nodes = Node.objects.using(group[0].alias).filter(pk__in=[row.pk for row in group])
        nodes.update(publications=publications + 1, publish_at=publish_at)


def _settle(row: Node, using: str) -> int:
    """Pause a due node of a paused workflow, or complete a due flag."""
    try:
        if row.is_paused:
            pause_due(row)
        else:
            advance(repeat_on(row, _complete_flag, using=using), using)
    except StaleNode:
        return 0
    except Exception:  # the messages of the other rows still have to be sent
        logger.exception("Cannot settle node %s", row.pk, extra={"node_id": row.pk})
        return 0
    return 1


def _complete_flag(flag: Node) -> Wake:
    with transaction.atomic(using=flag.alias):
        return finish(flag, outcome=Outcome.SUCCEEDED, reason="flag is due")


def requeue(node: Node) -> Wake:
    """Queue a paused node again; the sweeper publishes it, or completes it if it is a flag."""
    now = node.db_now
    publish_at = clock.now() if node.is_flag else clock.after(settings.lease)
    with transaction.atomic(using=node.alias):
        transition(node, Status.QUEUED, reason="resumed", publish_at=publish_at, publications=0)
    return Wake(publications=[] if node.is_flag else [Publication.of(node, now)])

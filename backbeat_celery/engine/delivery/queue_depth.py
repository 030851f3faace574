"""Estimate from the depth of the broker's queues how many messages may be lost.

Each due node should have a message on its queue. If there are as many messages as due nodes, an
old node only waits behind others, and another message would make the queue longer. If there are
fewer messages, the difference may be lost, or prefetched by busy workers.

The depth also counts messages of other applications. So it may postpone a message but never
prevents it: a node that was not claimed for `LONGEST_INTERVAL` gets a message at any depth.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from django.db.models import Count, F, Q

from backbeat_celery.conf import settings
from backbeat_celery.engine.after_commit import called_task, options_of
from backbeat_celery.engine.delivery.outbox import outbox
from backbeat_celery.engine.delivery.routing import known_queue
from backbeat_celery.engine.publish_times import LONGEST_INTERVAL
from backbeat_celery.inputs.node_spec import ROUTE_OPTIONS
from backbeat_celery.models import Node
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.runtime import clock

PAUSE_FACTOR = 9
"""Pause after a count, as a multiple of its duration: it reads every node that is due."""

IN_TRANSIT = 1 / 3
"""Share of a lease that a message may need to reach the broker."""

_paused_until: dict[str, float] = {}


def always_republish() -> Q:
    """Match due rows that are republished, or settled, whatever the depth of their queue.

    These are flags, nodes of paused workflows, timers that have had no message yet, and nodes
    whose last message was sent `LONGEST_INTERVAL` ago.
    """
    long_ago = Q(publish_at__lte=clock.after(-LONGEST_INTERVAL))
    return Q(task="") | Q(is_paused=True) | Q(fires_at__gt=F("publish_at")) | long_ago


def maybe_undelivered() -> Q:
    """Match the other due rows: a message was sent, but the node was not claimed."""
    was_sent = Q(fires_at=None) | Q(fires_at__lte=F("publish_at"))
    lately = Q(publish_at__gt=clock.after(-LONGEST_INTERVAL))
    return was_sent & lately & Q(is_paused=False) & ~Q(task="")


class MissingMessages:
    """How many messages each queue may lack; infinitely many if the broker does not say."""

    def __init__(self, missing: dict[str, float]) -> None:
        self._missing = missing

    def __bool__(self) -> bool:
        return any(count > 0 for count in self._missing.values())

    def select(self, rows: Iterable[Node]) -> list[Node]:
        """Give the first of these rows, for each queue as many as may lack a message."""
        left = dict(self._missing)
        chosen = []
        for row in rows:
            queue = known_queue(called_task(row), options_of(row))
            if left.get(queue, 0) > 0:
                left[queue] -= 1
                chosen.append(row)
        return chosen


def is_counting_paused(using: str) -> bool:
    """Tell whether the last count took so long that it is too early for another."""
    return not clock.is_simulated() and time.monotonic() < _paused_until.get(using, 0.0)


def find_missing_messages(using: str) -> MissingMessages:
    """Compare the number of due nodes with the number of messages, for each queue."""
    begun = time.monotonic()
    due = Q(fires_at=None) | Q(fires_at__lte=clock.now())
    # Messages of nodes that were queued a moment ago may not have reached the broker yet.
    fresh = Q(publish_count=0, publish_at__gt=clock.after(settings.lease * (1 - IN_TRANSIT)))
    nodes = Node.objects.using(using).claimable().filter(due, ~fresh, publish_at__isnull=False)
    expected = due_by_queue(nodes)
    _paused_until[using] = time.monotonic() + PAUSE_FACTOR * (time.monotonic() - begun)
    return MissingMessages({queue: _missing(queue, count) for queue, count in expected.items()})


def due_by_queue(nodes: NodeQuerySet) -> Counter[str]:
    """Count nodes by the queue of their messages, without flags."""
    routes = {name: F(f"options__{name}") for name in ROUTE_OPTIONS}
    sent = F("options__policy__sent")  # for tasks that are not registered in this process
    groups = nodes.exclude(Q(task="")).order_by().values("task", "remote", sent=sent, **routes)
    counts: Counter[str] = Counter()
    group: dict[str, Any]
    for group in groups.annotate(count=Count("pk")):  # type: ignore[assignment]
        options = {name: group[name] for name in routes if group[name] is not None}
        options["policy"] = {"sent": group["sent"] or {}}
        node = Node(task=group["task"], remote=group["remote"], options=options)
        counts[known_queue(called_task(node), options_of(node))] += group["count"]
    return counts


def _missing(queue: str, expected: int) -> float:
    depth = outbox().depth(queue) if queue else None
    return math.inf if depth is None else max(0, expected - depth)

"""Tell by the depth of the broker's queues how many messages may be lost.

A node that is due ought to have a message on its queue. Where there are as many messages as
such nodes, whoever has waited long waits behind others, and another message would only make the
queue longer. Where there are fewer, that many may be lost, or be with workers that are busy.

A depth also counts what others have put on the queue. So it may postpone a message and never
prevents it: what nobody has taken for `LONGEST_INTERVAL` is sent again whatever the depth.
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

REST = 9
"""Times as long as a look took until the next: it counts every node that is due."""

ON_ITS_WAY = 1 / 3
"""Share of a lease that a message may be on its way to the broker."""

_rests_until: dict[str, float] = {}


def always_republish() -> Q:
    """Of rows whose next message is due: those that get it, or are settled, in any case.

    Flags, nodes of paused workflows, timers that no message was sent for, and what was sent so
    long ago that no depth counts.
    """
    long_ago = Q(publish_at__lte=clock.after(-LONGEST_INTERVAL))
    return Q(task="") | Q(is_paused=True) | Q(fires_at__gt=F("publish_at")) | long_ago


def maybe_undelivered() -> Q:
    """The others: a message was sent, and nobody has taken it for a while."""
    was_sent = Q(fires_at=None) | Q(fires_at__lte=F("publish_at"))
    lately = Q(publish_at__gt=clock.after(-LONGEST_INTERVAL))
    return was_sent & lately & Q(is_paused=False) & ~Q(task="")


class MissingMessages:
    """How many messages may be lost, queue by queue; any number where the broker does not tell."""

    def __init__(self, missing: dict[str, float]) -> None:
        self._missing = missing

    def __bool__(self) -> bool:
        return any(count > 0 for count in self._missing.values())

    def among(self, rows: Iterable[Node]) -> list[Node]:
        """The first of these rows, as many of each queue as may lack a message."""
        left = dict(self._missing)
        chosen = []
        for row in rows:
            queue = known_queue(called_task(row), options_of(row))
            if left.get(queue, 0) > 0:
                left[queue] -= 1
                chosen.append(row)
        return chosen


def is_resting(using: str) -> bool:
    """Tell whether the last look was so dear that it is too early for another."""
    return not clock.is_simulated() and time.monotonic() < _rests_until.get(using, 0.0)


def find_missing_messages(using: str) -> MissingMessages:
    """Compare how many nodes are due with how many messages there are."""
    begun = time.monotonic()
    due = Q(fires_at=None) | Q(fires_at__lte=clock.now())
    # What was queued a moment ago may be on its way to the broker still.
    fresh = Q(publish_count=0, publish_at__gt=clock.after(settings.lease * (1 - ON_ITS_WAY)))
    nodes = Node.objects.using(using).claimable().filter(due, ~fresh, publish_at__isnull=False)
    expected = due_by_queue(nodes)
    _rests_until[using] = time.monotonic() + REST * (time.monotonic() - begun)
    return MissingMessages({queue: _missing(queue, count) for queue, count in expected.items()})


def due_by_queue(nodes: NodeQuerySet) -> Counter[str]:
    """Count nodes by the queue of their messages, flags left out."""
    routes = {name: F(f"options__{name}") for name in ROUTE_OPTIONS}
    sent = F("options__policy__sent")  # of tasks that are not known here
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

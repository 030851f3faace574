"""When a node's next message is due: one rule, in Python, for query sets and in SQL.

`publish_at` of a claimable node is when the sweeper sends a message for it. A node that is due
within the horizon gets its first message when it is queued, and the sweeper repeats it only
after a lease without a claim. One that is due later gets none yet: the sweeper sends it when the
horizon is reached. A flag has no message; the sweeper completes it when it is due.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import DateTimeField, ExpressionWrapper, F
from django.db.models.expressions import Combinable

from backbeat_celery.conf import settings
from backbeat_celery.inputs.node_spec import TURN
from backbeat_celery.models import Node
from backbeat_celery.runtime import clock
from backbeat_celery.runtime.backoff import exponential

LONGEST_INTERVAL = 600.0
"""Seconds between two messages for a node that stays queued, however long the queue is."""


def seconds_until(fires_at: datetime | None, now: datetime) -> float:
    """Seconds from `now` until a node may run; 0 when it may already."""
    return 0.0 if fires_at is None else max(0.0, (fires_at - now).total_seconds())


def is_due(fires_at: datetime | None, now: datetime) -> bool:
    """Tell whether a node may run."""
    return fires_at is None or fires_at <= now


def turn_times(options: Mapping[str, Any], turn: datetime) -> dict[str, datetime]:
    """`fires_at` and `expires_at` of a node, each if it counts from the node's turn."""
    times = options.get(TURN, {})
    names = {"fires_at": "countdown", "expires_at": "expires"}
    return {
        column: turn + timedelta(seconds=times[name])
        for column, name in names.items()
        if times.get(name) is not None
    }


def publish_at(fires_at: datetime | None, now: datetime, *, is_flag: bool = False) -> datetime:
    """The rule in Python, for a node that is queued now."""
    wait = seconds_until(fires_at, now)
    return now + timedelta(seconds=wait + _offset(wait, is_flag))


def _offset(wait: float, is_flag: bool) -> float:
    """Seconds from the time at which a node may run to the time at which the sweeper sends."""
    if is_flag:
        return 0.0
    return settings.lease if wait <= settings.publish_horizon else -settings.publish_horizon


def publish_at_by_row(
    rows: Iterable[Node], now: datetime
) -> Iterator[tuple[Sequence[Node], Combinable]]:
    """The rule for query sets: rows that are queued now, and the expression for each group."""
    groups: dict[tuple[bool, float], list[Node]] = {}
    for row in rows:
        wait = seconds_until(row.fires_at, now)
        groups.setdefault((wait > 0, _offset(wait, row.is_flag)), []).append(row)
    for (waits, offset), group in groups.items():
        yield group, _fires_at_plus(offset) if waits else clock.after(offset)


def _fires_at_plus(seconds: float) -> Combinable:
    moved = F("fires_at") + timedelta(seconds=seconds)
    return ExpressionWrapper(moved, output_field=DateTimeField())


def publish_at_sql(node: str, lease: str, horizon: str) -> str:
    """The rule in SQL, for a task; `node` has `fires_at`, the others are `parameters`."""
    return f"""
    CASE
        WHEN {node}.fires_at IS NULL OR {node}.fires_at <= {{now}}
            THEN {{now}} + make_interval(secs => {lease}::float8)
        WHEN {node}.fires_at <= {{now}} + make_interval(secs => {horizon}::float8)
            THEN {node}.fires_at + make_interval(secs => {lease}::float8)
        ELSE {node}.fires_at - make_interval(secs => {horizon}::float8)
    END
""".strip()


def parameters() -> list[str]:
    """Lease and horizon for the rule in SQL."""
    return [repr(settings.lease), repr(settings.publish_horizon)]


def after_a_lease() -> Combinable:
    """For a task that is due, and whose message is sent by the process that queues it."""
    return clock.after(settings.lease)


def at_the_next_sweep() -> Combinable:
    """For a task that is due: so long ago that no depth of its queue postpones the message."""
    return clock.after(-LONGEST_INTERVAL)


def after_a_repetition(publications: int, *, is_due: bool) -> Combinable:
    """For a task whose message the sweeper sends now, as so many were sent before.

    Each interval is twice the one before it, up to `LONGEST_INTERVAL`.
    """
    interval = exponential(settings.lease, publications, LONGEST_INTERVAL)
    return clock.after(interval) if is_due else _fires_at_plus(interval)

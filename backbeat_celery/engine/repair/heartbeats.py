"""Heartbeats of workers: each worker updates one row, and old rows are deleted."""

from __future__ import annotations

from backbeat_celery.models import WorkerHeartbeat
from backbeat_celery.runtime import clock

INTERVAL = 15.0
"""Seconds between two heartbeats of a worker."""

OFFLINE_AFTER = 3 * INTERVAL
"""Seconds without a heartbeat after which a worker counts as offline."""

DELETE_AFTER = 86400.0
"""Seconds without a heartbeat after which a worker's row is deleted."""


def write(
    name: str, using: str, *, pool: str, concurrency: int, running: int, queues: list[str]
) -> None:
    """Write a worker's heartbeat, with the database's time."""
    rows = WorkerHeartbeat.objects.using(using)
    values = {"pool": pool, "concurrency": concurrency, "running": running, "queues": queues}
    if not rows.filter(name=name).update(seen_at=clock.now(), **values):
        now = clock.now()
        rows.bulk_create(
            [WorkerHeartbeat(name=name, started_at=now, seen_at=now, **values)],
            ignore_conflicts=True,
        )


def delete(name: str, using: str) -> None:
    """Delete the row of a worker that stops."""
    WorkerHeartbeat.objects.using(using).filter(name=name).delete()


def delete_old(using: str) -> None:
    """Delete the rows of workers without a heartbeat for a day."""
    rows = WorkerHeartbeat.objects.using(using)
    rows.filter(seen_at__lt=clock.after(-DELETE_AFTER)).delete()


def consumed_queues(using: str) -> set[str] | None:
    """Name the queues that online workers consume; None if unknown or if none is online."""
    online = WorkerHeartbeat.objects.using(using).filter(seen_at__gt=clock.after(-OFFLINE_AFTER))
    reported = list(online.values_list("queues", flat=True))
    if not reported or None in reported:
        return None
    return {name for names in reported for name in names or ()}

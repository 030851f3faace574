"""Signs of life: each worker writes one row again and again; old rows are swept away."""

from __future__ import annotations

from backbeat_celery.models import WorkerHeartbeat
from backbeat_celery.runtime import clock

BEAT = 15.0
"""Seconds between two signs of life of a worker."""

LATE = 3 * BEAT
"""Seconds without a sign of life after which a worker is taken for gone."""

FORGOTTEN = 86400.0
"""Seconds after which the row of a worker that was not heard of any more is deleted."""


def beat(
    name: str, using: str, *, pool: str, concurrency: int, running: int, queues: list[str]
) -> None:
    """Write that this worker lives, in the database's time."""
    rows = WorkerHeartbeat.objects.using(using)
    values = {"pool": pool, "concurrency": concurrency, "running": running, "queues": queues}
    if not rows.filter(name=name).update(seen_at=clock.now(), **values):
        now = clock.now()
        rows.bulk_create(
            [WorkerHeartbeat(name=name, started_at=now, seen_at=now, **values)],
            ignore_conflicts=True,
        )


def leave(name: str, using: str) -> None:
    """Take the row of a worker away that ends in order."""
    WorkerHeartbeat.objects.using(using).filter(name=name).delete()


def forget(using: str) -> None:
    """Delete the rows of workers that have been silent for a day."""
    rows = WorkerHeartbeat.objects.using(using)
    rows.filter(seen_at__lt=clock.after(-FORGOTTEN)).delete()


def heard_queues(using: str) -> set[str] | None:
    """The queues that living workers listen to; None where one does not say, or none lives."""
    living = WorkerHeartbeat.objects.using(using).filter(seen_at__gt=clock.after(-LATE))
    told = list(living.values_list("queues", flat=True))
    if not told or None in told:
        return None
    return {name for names in told for name in names or ()}

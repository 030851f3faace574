"""How long it takes to partition full tables, and to purge by detaching and by deleting.

python -m benchmarks.purging --finished 1000000
"""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.servers import Servers


def main() -> None:
    """Fill, purge a tenth by deleting, partition, detach the rest."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.purging", description=__doc__)
    parser.add_argument("--finished", type=int, default=1_000_000)
    options = parser.parse_args()
    with Servers() as servers:
        os.environ |= {
            "BENCH_BROKER": servers.redis(),
            "BENCH_POSTGRES": servers.postgres(),
            "BENCH_TICKS": str(servers.folder / "ticks"),
        }
        from benchmarks.cost import make_database

        make_database()
        _measure(options.finished)


def _measure(finished: int) -> None:
    from django.core.management import call_command
    from django.db import connection

    from backbeat_celery.models import Node
    from benchmarks.ours import seed
    from benchmarks.partitions import partition

    print(f"load (`uptime`, one minute): {os.getloadavg()[0]:.1f}")
    with _timed(f"fill with {finished} finished nodes"):
        seed.finished(finished)
    with _timed("purge what is older than 330 days, by deleting") as took:
        call_command("backbeat_purge", older_than=330, verbosity=0, stdout=io.StringIO())
    left = Node.objects.count()
    print(f"  {finished - left} nodes, {(finished - left) / took():.0f} nodes/s")
    with _timed(f"partition tables of {left} nodes"), connection.cursor() as cursor:
        now = partition(cursor)
    with _timed(f"detach and drop the oldest partition, {left} nodes"):
        _detach(now)
    print(f"  left: {Node.objects.count()} nodes")


def _detach(now: datetime) -> None:
    from django.db import connection

    span = [datetime(1970, 1, 1, tzinfo=UTC), now - timedelta(hours=6)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT backbeat_detach_partition('first', %s, %s, now())", span)
        for table in ("node", "transition", "attempt"):
            cursor.execute(f"DROP TABLE backbeat_celery_{table}_first")


@contextmanager
def _timed(what: str) -> Iterator[Any]:
    start = time.perf_counter()
    seconds: list[float] = []
    yield lambda: seconds[0]
    seconds.append(time.perf_counter() - start)
    print(f"{what}: {seconds[0]:.1f} s", flush=True)


if __name__ == "__main__":
    main()

"""A worker process of DBOS: `python -m benchmarks.dbos.worker EXECUTOR`."""

from __future__ import annotations

import os
import sys
import threading

from dbos import DBOS, DBOSConfig

from benchmarks.ticks import tick

VERSION = "1"
QUEUE = "bench"
POLLING = 0.05
"""Seconds between two looks at the queue. Its default of 1 s would measure nothing but that."""

config: DBOSConfig = {
    "name": "bench",
    "system_database_url": os.environ["BENCH_POSTGRES"].replace(
        "postgresql://", "postgresql+psycopg://"
    )
    + "/dbos",
    "application_version": VERSION,
    "executor_id": sys.argv[1] if len(sys.argv) > 1 else "client",
    "log_level": "WARNING",
}


@DBOS.workflow()
def nothing() -> None:
    """Do nothing but note the time."""
    tick()


@DBOS.workflow()
def fan_out(children: int) -> int:
    """Enqueue children and wait for all of them."""
    handles = [DBOS.enqueue_workflow(QUEUE, nothing) for _ in range(children)]
    return sum(handle.get_result() is None for handle in handles)


@DBOS.workflow()
def chain(hops: int) -> int:
    """Enqueue one child after the other."""
    return sum(DBOS.enqueue_workflow(QUEUE, nothing).get_result() is None for _ in range(hops))


if __name__ == "__main__":
    DBOS(config=config)
    DBOS.launch()
    DBOS.register_queue(QUEUE, polling_interval_sec=POLLING)
    threading.Event().wait()

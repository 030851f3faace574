"""A worker of the peers, warm."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import ticks
from benchmarks.harness import Round, Worker, wait_for_ticks, warm_up
from benchmarks.plain.app import app, join, nothing, step

__all__ = [
    "app",
    "join",
    "nothing",
    "redis_backend",
    "send_all",
    "sql_backend",
    "started_worker",
    "step",
]


def redis_backend() -> None:
    """Keep results in Redis. Before the app is used."""
    _use(os.environ["BENCH_REDIS"].replace("/0", "/1"))


def sql_backend() -> None:
    """Keep results in PostgreSQL, through SQLAlchemy."""
    address = os.environ["BENCH_POSTGRES"].replace("postgresql://", "postgresql+psycopg://")
    _use(f"db+{address}/plain")


def _use(backend: str) -> None:
    os.environ["BENCH_BACKEND"] = backend
    app.conf.result_backend = backend


@contextmanager
def started_worker(queues: str = "plain") -> Iterator[Worker]:
    """A worker that has run its first tasks."""
    with Worker("benchmarks.plain.app", queues) as worker:
        task = step if os.environ.get("BENCH_BACKEND") else nothing
        warm_up(lambda: task.apply_async(queue=queues.split(",")[0]))
        ticks.clear()
        yield worker


def send_all(run: Round) -> None:
    """Send a task without a result for each unit of the round, and wait until all were called."""
    with started_worker() as worker, run.timed(run.size, worker):
        with app.producer_pool.acquire() as producer:
            for _ in range(run.size):
                nothing.apply_async(producer=producer)
        wait_for_ticks(run.size)

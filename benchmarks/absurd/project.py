"""Worker processes of absurd, and a client. The tables come with the package `absurdctl`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks.harness import process

WORKER = "benchmarks.absurd.worker"


def tasks(queue: str = "bench") -> Any:
    """A client of tables that are there."""
    from benchmarks.absurd.worker import make

    if not _query("SELECT to_regclass('absurd.queues')")[0]:
        _make_tables()
    app = make(queue)
    for name in ("bench", "parents"):
        app.create_queue(name)
    return app


def count_unfinished() -> int:
    """How many tasks have no result yet."""
    (count,) = _query("SELECT count(*) FROM absurd.t_bench WHERE state <> 'completed'")
    return int(count)


@contextmanager
def started_workers(*queues: str) -> Iterator[None]:
    """A process for each queue that is named; two for the children if none is."""
    with ExitStack() as stack:
        for number, queue in enumerate(queues or ("bench", "bench")):
            stack.enter_context(process(f"absurd{number}", WORKER, queue))
        yield


def _query(statement: str) -> Any:
    with _connected() as connection:
        return connection.execute(statement).fetchone()


def _make_tables() -> None:
    from absurdctl import BUNDLED_SCHEMA_SQL

    with _connected() as connection:
        connection.execute(BUNDLED_SCHEMA_SQL)


def _connected() -> Any:
    import psycopg

    return psycopg.connect(f"{os.environ['BENCH_POSTGRES']}/absurd")

"""Two worker processes of DBOS, warm, and a client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import ticks
from benchmarks.harness import process
from benchmarks.servers import until

WORKFLOWS = "benchmarks.dbos.worker"


@contextmanager
def started_client() -> Iterator[Any]:
    """A client of workers that have run their first workflow."""
    with started_workers(), clients() as client:
        call(client, "fan_out", 20).get_result()
        ticks.clear()
        yield client


@contextmanager
def started_workers() -> Iterator[None]:
    """Two processes; the first one makes the tables."""
    with process("dbos1", WORKFLOWS, "1"):
        until(_is_migrated, 60, "DBOS's migrations")
        with process("dbos2", WORKFLOWS, "2"):
            yield


@contextmanager
def clients() -> Iterator[Any]:
    """A client."""
    from dbos import DBOSClient

    client = DBOSClient(system_database_url=f"{_address()}/dbos")
    try:
        yield client
    finally:
        client.destroy()


def _address() -> str:
    return os.environ["BENCH_POSTGRES"].replace("postgresql://", "postgresql+psycopg://")


def call(client: Any, workflow: str, *args: Any) -> Any:
    """Enqueue a workflow."""
    options = {"queue_name": "bench", "workflow_name": workflow, "app_version": "1"}
    return client.enqueue(options, *args)


def _is_migrated() -> bool:
    import psycopg

    with psycopg.connect(f"{os.environ['BENCH_POSTGRES']}/dbos") as connection:
        row = connection.execute("SELECT to_regclass('dbos.queues')").fetchone()
        if row is None or row[0] is None:
            return False
        found = connection.execute("SELECT 1 FROM dbos.queues WHERE name = 'bench'")
        return found.fetchone() is not None

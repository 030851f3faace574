"""Measure what a node costs the database and the workers: the cost model of docs/planning.md.

python -m benchmarks.cost --nodes 2000 --report docs/benchmarks/cost.md
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import Round, wait_for_ticks
from benchmarks.servers import Servers

PRELOADED = "shared_preload_libraries=pg_stat_statements"
COLUMNS = (
    "transactions",
    "statements",
    "WAL, kB",
    "rows and indexes, kB",
    "CPU of PostgreSQL, ms",
    "of the worker's main process, ms",
    "of its pool, ms",
    "connections",
)


class Database:
    """What PostgreSQL counts by itself, on a connection of its own."""

    def __init__(self, address: str) -> None:
        import psycopg

        self._connection: Any = psycopg.connect(f"{address}/backbeat", autocommit=True)
        self._connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")

    def counts(self) -> dict[str, float]:
        """Transactions, statements, bytes of WAL and of tables so far."""
        # What other sessions have done is reported within a second.
        time.sleep(1.2)
        transactions = "SELECT xact_commit FROM pg_stat_database WHERE datname = 'backbeat'"
        statements = """SELECT coalesce(sum(calls), 0) FROM pg_stat_statements(false)
            JOIN pg_database ON oid = dbid WHERE datname = 'backbeat'"""
        sizes = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r'"
        sizes += " AND relname ~ '^backbeat_celery_(workflow|node|transition|attempt)'"
        return {
            "transactions": self._one(transactions),
            "statements": self._one(statements),
            "WAL, kB": self._one("SELECT pg_current_wal_insert_lsn() - '0/0'") / 1024,
            "rows and indexes, kB": self._one(sizes) / 1024,
        }

    def clients(self) -> int:
        """How many other sessions there are."""
        return int(
            self._one(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = 'backbeat'"
                " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        )

    def _one(self, statement: str) -> float:
        return float(self._connection.execute(statement).fetchone()[0])


def _independent(run: Round, in_bundles: bool = False) -> None:
    from backbeat_celery import signal_many
    from backbeat_celery.models import Node
    from benchmarks.ours.tasks import bundled, nothing
    from benchmarks.servers import until

    task = bundled if in_bundles else nothing
    for start in range(0, run.size, 500):
        numbers = range(start, min(start + 500, run.size))
        signal_many([(task, {"subject": str(number)}) for number in numbers])
    wait_for_ticks(run.size)
    unfinished = Node.objects.filter(task=task.name, finished_at=None)
    until(lambda: not unfinished.exists(), 60, "the last node", 0.5)


def _signals(run: Round) -> None:
    from backbeat_celery import signal
    from benchmarks.ours.tasks import nothing

    for number in range(run.size):
        signal(nothing.s().set(queue="sink"), subject=str(number))


def _tree(task: str, *arguments: Any) -> Callable[[Round], None]:
    def run_tree(run: Round) -> None:
        from backbeat_celery import signal
        from benchmarks.ours import tasks
        from benchmarks.ours.project import wait_until_complete

        node = signal(getattr(tasks, task).s(run.size, *arguments), subject="all")
        wait_for_ticks(run.size)
        wait_until_complete(node)

    return run_tree


SHAPES: dict[str, Callable[[Round], None]] = {
    "a signal, sent one by one, not run": _signals,
    "a signal by `signal_many`, run": _independent,
    "the same, in bundles of 50": lambda run: _independent(run, in_bundles=True),
    "a child of a fan-out": _tree("fan_out"),
    "the same, in bundles of 50 ": _tree("fan_out", True),
    "a step of a chain": _tree("family", "blocking"),
}


def main() -> None:
    """Measure each shape, then a worker without work."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=__doc__)
    parser.add_argument("--nodes", type=int, default=2000)
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--concurrency", type=int, default=2)
    parser.add_argument(
        "--idle", type=float, default=20, help="seconds for which a worker without work is watched"
    )
    parser.add_argument("--report", type=Path, help="write the table to this Markdown file")
    options = parser.parse_args()
    with Servers() as servers:
        redis = servers.redis()
        os.environ |= {
            "BENCH_BROKER": redis if options.broker == "redis" else servers.rabbitmq(),
            "BENCH_POSTGRES": servers.postgres(PRELOADED),
            "BENCH_POSTGRES_PID": str(servers.pids["postgres"]),
            "BENCH_TICKS": str(servers.folder / "ticks"),
            "BENCH_POOL": "prefork",
            "BENCH_CONCURRENCY": str(options.concurrency),
        }
        text = _report(options)
    print(text)
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(text + "\n")


def _report(options: argparse.Namespace) -> str:
    from benchmarks.report import machine

    make_database()
    database = Database(os.environ["BENCH_POSTGRES"])
    lines = ["# What a node costs", ""]
    conditions = machine() | {
        "broker": options.broker,
        "worker": f"prefork, {options.concurrency}",
        "nodes of each shape": options.nodes,
        "load before (`uptime`, one minute)": f"{os.getloadavg()[0]:.1f}",
    }
    lines += [f"* {name}: {value}" for name, value in conditions.items()]
    lines += ["", f"| of each node | {' | '.join(COLUMNS)} |"]
    lines.append("| --- " * (len(COLUMNS) + 1) + "|")
    for name, shape in SHAPES.items():
        try:
            cost = _measure(database, shape, options.nodes)
        except Exception as exc:
            lines.append(f"| {name.strip()} | {type(exc).__name__}: {exc} |")
            continue
        cells = [f"{cost.get(column, 0):.2f}" for column in COLUMNS[:-1]]
        lines.append(f"| {name.strip()} | {' | '.join(cells)} | {cost['connections']:.0f} |")
    return "\n".join([*lines, "", _idle(database, options.idle)])


def make_database() -> None:
    """Make the tables of our own project, in this very process."""
    import psycopg

    with psycopg.connect(f"{os.environ['BENCH_POSTGRES']}/postgres", autocommit=True) as server:
        server.execute("CREATE DATABASE backbeat")
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.ours.settings"
    from django.core.management import call_command

    import benchmarks.ours.project  # noqa: F401  (sets Django up)

    call_command("migrate", verbosity=0)


def _measure(database: Database, shape: Callable[[Round], None], nodes: int) -> dict[str, float]:
    from benchmarks.ours.project import started_worker

    run = Round(nodes)
    with started_worker() as worker:
        before = database.counts()
        with run.timed(nodes, worker):
            shape(run)
            clients = database.clients()
        after = database.counts()
    cost = {name: (after[name] - before[name]) / nodes for name in before}
    cpu = {name: 1000 * seconds / nodes for name, seconds in run.measured["cpu"].items()}
    return {
        **cost,
        "CPU of PostgreSQL, ms": cpu["postgres"],
        "of the worker's main process, ms": cpu["main"],
        "of its pool, ms": cpu["pool"],
        "connections": clients - 1,  # our own
    }


def _idle(database: Database, seconds: float) -> str:
    from benchmarks.ours.project import started_worker

    run = Round(1)
    with started_worker() as worker:
        time.sleep(2)
        before = database.counts()
        with run.timed(1, worker):
            time.sleep(seconds)
            clients = database.clients()
        after = database.counts()
        memory = worker.memory() / 1024
    rate = {name: (after[name] - before[name]) / (seconds + 1.2) for name in before}
    cpu = run.measured["cpu"]
    return (
        f"A worker without work sends {rate['statements']:.1f} statements a second, writes"
        f" {rate['WAL, kB']:.1f} kB of WAL a second, keeps {clients - 1} connections open,"
        f" takes {1000 * (cpu['main'] + cpu['pool']) / seconds:.0f} ms of CPU a second, its"
        f" database {1000 * cpu['postgres'] / seconds:.0f} ms, and {memory:.0f} MB of memory."
    )


if __name__ == "__main__":
    main()

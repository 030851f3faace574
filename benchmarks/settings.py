"""Measure nodes beside plain tasks under the worker settings that people use.

python -m benchmarks settings --broker redis --report docs/benchmarks/settings-redis.md
python -m benchmarks settings --only "prefork -c 1,solo" --size 100 --rounds 1
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from kombu import Connection, Queue

from benchmarks import ticks
from benchmarks.harness import QUIET
from benchmarks.report import machine
from benchmarks.servers import Servers, python

FACTOR = 1.5
"""A row's nodes may take so many times its plain tasks, plus what a node costs."""

LONGEST_ROUND = 300
CONTESTANTS = ("celery", "ours")


@dataclass
class Row:
    """One setting of a worker, and what was measured with it."""

    pool: str
    concurrency: int
    prefetch: int
    options: str = ""
    queue_type: str = ""
    brokers: tuple[str, ...] = ("redis", "rabbitmq")
    seconds: dict[str, list[float]] = field(default_factory=dict)
    pauses: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The options as they are given to `celery worker`, but for two that are shortened."""
        words = [self.pool, f"-c {self.concurrency}", f"prefetch {self.prefetch}"]
        words += [self.options.replace(QUIET, "quiet"), self.queue_type]
        return " ".join(filter(None, words))

    def environment(self) -> dict[str, str]:
        """What tells a round of it."""
        return {
            "BENCH_POOL": self.pool,
            "BENCH_CONCURRENCY": str(self.concurrency),
            "BENCH_WORKER": f"--prefetch-multiplier {self.prefetch} {self.options}",
            "BENCH_QUEUE_TYPE": self.queue_type,
        }

    def median(self, name: str) -> float | None:
        """The seconds of a contestant."""
        return statistics.median(self.seconds[name]) if self.seconds.get(name) else None


def rows(broker: str) -> list[Row]:
    """All settings for a broker, the usual one first: what a node costs is taken from it."""
    found = [row for row in _rows() if broker in row.brokers]
    found.sort(key=lambda row: row.name != "prefork -c 2 prefetch 4")
    return found


def _rows() -> Iterator[Row]:
    for prefetch in (4, 1):
        for concurrency in (2, 1, 8):
            yield Row("prefork", concurrency, prefetch)
        for options in ("-O fair", "--max-tasks-per-child 50", "--autoscale 4,1", QUIET):
            yield Row("prefork", 2, prefetch, options)
        yield Row("prefork", 1, prefetch, QUIET)
        yield Row("prefork", 2, prefetch, queue_type="quorum", brokers=("rabbitmq",))
        for pool in ("threads", "gevent"):
            for concurrency in (1, 2, 8):
                yield Row(pool, concurrency, prefetch)
        yield Row("solo", 1, prefetch)


def arguments(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks settings", description=__doc__)
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--size", type=int, default=600, help="nodes, and tasks, of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", help="names of rows, or beginnings of names, with semicolons; default: all"
    )
    parser.add_argument("--report", type=Path, help="write the table to this Markdown file")
    options = parser.parse_args(words)
    # What the database of a run is prepared for.
    options.pool, options.concurrency, options.finished = "prefork", 2, 0
    return options


def main(words: list[str]) -> int:
    """Measure the rows in turns; the exit code tells whether a round of nodes has failed."""
    from benchmarks.__main__ import _environment, _prepare

    options = arguments(words)
    wanted = options.only.split(";") if options.only else [""]
    chosen = [row for row in rows(options.broker) if _is_one_of(row, wanted)]
    if not chosen:
        raise SystemExit(f"no row begins with any of {wanted}")
    with Servers() as servers:
        environment = _environment(servers, options)
        _prepare(environment, False)
        for number in range(options.rounds):
            for row in chosen:
                # Each round begins with the other one.
                for name in CONTESTANTS if number % 2 == 0 else CONTESTANTS[::-1]:
                    _round(row, name, options.size, environment | row.environment())
                print(_line(row, chosen[0]), flush=True)
                if options.report:
                    options.report.write_text(report(chosen, options) + "\n")
    print(report(chosen, options))
    return 1 if any(row.failures for row in chosen) else 0


def _is_one_of(row: Row, wanted: list[str]) -> bool:
    """Whether its name is wanted, or begins with what is wanted and names no row itself."""
    names = {other.name for other in _rows()}
    return row.name in wanted or row.name.startswith(tuple(w for w in wanted if w not in names))


def _round(row: Row, name: str, size: int, environment: dict[str, str]) -> None:
    _delete_queues(environment["BENCH_BROKER"])
    command = python("-m", "benchmarks.workloads.w1", name, str(size))
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LONGEST_ROUND
        )
    except subprocess.TimeoutExpired:
        row.failures.append(f"{name} took over {LONGEST_ROUND} s")
        return
    if done.returncode:
        error = done.stderr.strip().splitlines() or ["died"]
        row.failures.append(f"{name}: {error[-1][:200]}")
        if os.environ.get("BENCH_VERBOSE"):
            print(done.stdout, done.stderr, file=sys.stderr)
        return
    measured: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    row.seconds.setdefault(name, []).append(measured["seconds"])
    row.pauses.setdefault(name, []).append(_longest_pause(environment["BENCH_TICKS"]))


def _delete_queues(broker: str) -> None:
    """The next row's may be of another type; and a round that has failed leaves messages."""
    with Connection(broker) as connection:
        for name in ("plain", "bench", "load"):
            Queue(name, channel=connection.default_channel).delete()


def _longest_pause(path: str) -> float:
    times = ticks.times(path)
    return max((after - before for before, after in pairwise(times)), default=0)


def cost_of_nodes(first: Row) -> float | None:
    """What the nodes of a round take more than its tasks, in the usual setting."""
    plain, ours = first.median("celery"), first.median("ours")
    return None if plain is None or ours is None else max(0.0, ours - plain)


def verdict(row: Row, first: Row) -> str:
    """Whether a row's nodes take no longer than they may."""
    plain, ours, cost = row.median("celery"), row.median("ours"), cost_of_nodes(first)
    if plain is None or ours is None or cost is None:
        return f"not measured: {'; '.join(row.failures)}"
    return "met" if ours <= FACTOR * plain + cost else "**missed**"


def _line(row: Row, first: Row) -> str:
    plain, ours, cost = row.median("celery"), row.median("ours"), cost_of_nodes(first)
    if plain is None or ours is None or cost is None:
        return f"| {row.name} | | | | | | | {verdict(row, first)} |"
    pauses = [f"{statistics.median(row.pauses[name]):.2f}" for name in CONTESTANTS]
    numbers = [plain, ours, ours / plain, FACTOR * plain + cost]
    cells = [row.name, *(f"{number:.2f}" for number in numbers), *pauses, verdict(row, first)]
    return f"| {' | '.join(cells)} |"


def report(chosen: list[Row], options: argparse.Namespace) -> str:
    """The table, with the conditions."""
    conditions = machine() | {
        "broker": options.broker,
        "nodes and tasks of a round": options.size,
        "rounds": f"{options.rounds}, of which the medians",
        "load at the end (`uptime`, one minute)": f"{os.getloadavg()[0]:.1f}",
    }
    heads = ["worker", "tasks, s", "nodes, s", "ratio", "at most, s"]
    heads += ["longest pause of tasks, s", "of nodes, s", ""]
    lines = [f"# Worker settings on {options.broker}", ""]
    lines += [f"* {name}: {value}" for name, value in conditions.items()]
    lines += ["", f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    lines += [_line(row, chosen[0]) for row in chosen]
    lines += ["", f"At most: {FACTOR} times the tasks beside them, plus what the nodes of the"]
    lines[-1] += " first row take more than its tasks."
    lines += ["", f"`quiet` is `{QUIET}`."]
    return "\n".join(lines)

"""What one round of one contestant runs in: a process of its own, told by the environment.

`BENCH_BROKER`, `BENCH_POSTGRES`, `BENCH_REDIS` are addresses, `BENCH_POOL`, `BENCH_CONCURRENCY`
and `BENCH_WORKER` (more options) shape the worker, `BENCH_TICKS` is the file of `ticks.py`.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from benchmarks import ticks
from benchmarks.servers import end_in_order, python, until

QUIET = "--without-gossip --without-mingle --without-heartbeat"

PATIENCE = 90.0
"""Seconds without any progress after which a round is given up."""


@dataclass
class Round:
    """One round of one contestant: its size, and what it has measured."""

    size: int
    measured: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def timed(self, count: int, worker: Worker | None = None) -> Iterator[None]:
        """Measure the CPU time that `count` units take, and their time if the block does not."""
        self.measured.pop("seconds", None)
        before, start = _cpu(worker), time.perf_counter()
        yield
        if "seconds" not in self.measured:
            self.note(count, time.perf_counter() - start)
        after = _cpu(worker)
        self.measured["cpu"] = {name: after[name] - before[name] for name in after}

    def note(self, count: int, seconds: float) -> None:
        """Note how many units took how long."""
        self.measured.update(count=count, seconds=seconds)

    def figures(self, figures: dict[str, float]) -> None:
        """Note what else was measured."""
        self.measured.setdefault("figures", {}).update(figures)

    def figure_memory(self, before: int, after: int) -> None:
        """Note the resident kilobytes of a worker and its pool, before and after."""
        self.figures(
            {
                "MB before": before / 1024,
                "MB after": after / 1024,
                "growth of memory, %": 100 * (after / before - 1),
            }
        )


class Worker:
    """`celery worker` of an app, as plain as the other contestants' workers."""

    def __init__(self, app: str, queues: str, log: str = "worker.log") -> None:
        command = python("-m", "celery", "-A", app, "worker", "-l", "WARNING", "-Q", queues)
        command += ["-P", os.environ["BENCH_POOL"], "-c", os.environ["BENCH_CONCURRENCY"]]
        command += shlex.split(os.environ.get("BENCH_WORKER", QUIET))
        self.log = os.path.join(os.path.dirname(os.environ["BENCH_TICKS"]), log)
        with open(self.log, "wb") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, start_new_session=True
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=20)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def memory(self) -> int:
        """Resident kilobytes of the worker and its pool."""
        pid = self.process.pid
        return sum(map(_resident, [pid, *children_of(pid)]))


@contextmanager
def process(name: str, module: str, *arguments: str) -> Iterator[None]:
    """A worker process of another system, killed at the end; its log lies beside the ticks."""
    log = os.path.join(os.path.dirname(os.environ["BENCH_TICKS"]), f"{name}.log")
    with open(log, "wb") as output:
        running = subprocess.Popen(python("-m", module, *arguments), stdout=output, stderr=output)
    try:
        yield
    finally:
        running.kill()
        running.wait(timeout=PATIENCE)


def _cpu(worker: Worker | None) -> dict[str, float]:
    """Seconds of CPU time that each part of the machinery has used."""
    used = {"client": _tree_cpu(os.getpid())}
    for name in ("postgres", "redis"):
        if pid := os.environ.get(f"BENCH_{name.upper()}_PID"):
            used[name] = _tree_cpu(int(pid))
    if worker is not None:
        pid = worker.process.pid
        used["client"] -= _tree_cpu(pid)
        used["main"] = _own_cpu(pid)
        used["pool"] = sum(_tree_cpu(child) for child in children_of(pid))
    return used


def children_of(pid: int) -> list[int]:
    """The process ids of a worker's pool."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def _own_cpu(pid: int, ended_children: bool = False) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if ended_children else 13])) / os.sysconf("SC_CLK_TCK")


def _tree_cpu(pid: int) -> float:
    try:
        return _own_cpu(pid, True) + sum(map(_tree_cpu, children_of(pid)))
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return 0.0


def _resident(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        lines = dict(line.split(":", 1) for line in file if ":" in line)
    return int(lines["VmRSS"].split()[0])


def wait_for_ticks(number: int, seconds: float = PATIENCE) -> None:
    """Wait until that many handlers have been called, as long as more and more are."""
    while (called := ticks.count()) < number:
        deadline = min(number, called + 1000)
        until(
            lambda: ticks.count() >= deadline,  # noqa: B023  (called at once)
            seconds,
            f"call {number} of a handler, after call {called},",
        )


def warm_up(call: Callable[[], Any], number: int = 40) -> None:
    """Let the worker connect, import and prepare before anything is measured."""
    ticks.clear()
    for _ in range(number):
        call()
    wait_for_ticks(number, 60)


def main(**contestants: Callable[[Round], None]) -> None:
    """Run the contestant that the command line names; print what it measured."""
    end_in_order()
    name, size = sys.argv[1], int(sys.argv[2])
    if name.endswith("_full"):
        os.environ["BENCH_DATABASE"] = "backbeat_full"
    if name.startswith("ours"):
        import benchmarks.ours.project  # noqa: F401  (sets Django up)
    measured = Round(size)
    contestants[name](measured)
    print(json.dumps(measured.measured))

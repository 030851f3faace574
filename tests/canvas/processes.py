"""The pytest processes of a column, which end with the runner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.canvas.column import Column
from tests.canvas.surroundings import surroundings

FILE = "t/integration/test_canvas.py"
RUN_CODES = {0, 1}
"""What pytest ends with when it has run its tests: all passed, or some did not."""
GRACE = 15
"""Seconds for a process to end after an interrupt."""
POLL = 0.2
"""Seconds between two looks at the processes."""


@dataclass(frozen=True)
class Plan:
    """How the tests are run."""

    suite: Path
    broker: str = "rabbitmq"
    jobs: int = 2
    plugins: tuple[str, ...] = ()
    extra: Mapping[str, str] | None = None
    """Variables of the environment for the plugins."""
    is_verbose: bool = False


def run(plan: Plan, names: Sequence[str], tests: Sequence[str]) -> dict[str, Column]:
    """Run the tests in columns beside each other, in processes with services of their own."""
    columns, begun = {name: Column() for name in names}, time.monotonic()
    parts = [part for n in range(plan.jobs) if (part := tests[n :: plan.jobs])]
    with ExitStack() as stack:
        running: dict[Path, tuple[str, subprocess.Popen[bytes]]] = {}
        for name in names:
            for number, part in enumerate(parts):
                environment = stack.enter_context(surroundings(name, plan.broker))
                environment |= plan.extra or {}
                report = plan.suite / f"{name}-{number}.xml"
                report.unlink(missing_ok=True)
                started = pytest_process(plan, name, part, environment, report)
                running[report] = name, stack.enter_context(started)
        while running:
            time.sleep(POLL)
            for report, (name, process) in list(running.items()):
                if process.poll() is not None:
                    del running[report]
                    _read(report, process.returncode, columns[name])
                    columns[name].seconds = time.monotonic() - begun
    return columns


def _read(report: Path, code: int, column: Column) -> None:
    if code not in RUN_CODES or not report.exists():
        said = _tail(report.with_suffix(".log"))
        raise SystemExit(f"pytest ended with {code} and left no whole {report.name}:\n{said}")
    column.read(report)


@contextmanager
def pytest_process(
    plan: Plan, name: str, tests: Sequence[str], environment: Mapping[str, str], report: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs some of the tests, and that is ended when the runner is."""
    plugins = ["celery.contrib.pytest", "pytest_timeout", "tests.canvas.common", *plan.plugins]
    if name == "ours":
        plugins.append("tests.canvas.adapter")
    command = [
        *(sys.executable, "-m", "pytest", "-q", "--timeout", "170", "--tb", "short"),
        *(word for plugin in plugins for word in ("-p", plugin)),
        *("-o", "xfail_strict=false", f"--junitxml={report}", "--no-header"),
        *(f"{FILE}::{test}" for test in tests),
    ]
    with report.with_suffix(".log").open("wb") as log:
        # A Ctrl-C goes to the runner alone, which ends its processes in order.
        process = subprocess.Popen(
            command,
            cwd=plan.suite,
            env=dict(environment),
            stdout=None if plan.is_verbose else log,
            stderr=None if plan.is_verbose else subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process that still runs, and kill what it leaves: the children of its pool."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(log: Path, lines: int = 40) -> str:
    said = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(said[-lines:]) or "(it printed nothing)"

"""A pytest plugin that runs the tests on a real prefork worker, and kills its child in each test.

The suite's own worker is a thread of pytest's process, which no signal may kill.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import celery.contrib.pytest
import pytest

from tests.canvas.common import SEED

LATEST = 2.0
"""Seconds of a test after which its kill is due at the latest; most are drawn much earlier, since
most tests work for tenths of a second and then wait."""
LOOKED = 0.3
"""Seconds to look for a child at work when a kill is due; then an idle one is killed."""
READY = 60
"""Seconds for a worker to answer."""


class Worker:
    """The worker that runs, if one does."""

    process: subprocess.Popen[bytes] | None = None
    busy: Path

    @classmethod
    def children(cls) -> list[int]:
        """The processes of its pool."""
        if cls.process is None:
            return []
        pid = cls.process.pid
        with suppress(OSError):
            found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
            return [int(one) for one in found.split()]
        return []

    @classmethod
    def is_at_work(cls, child: int) -> bool:
        """Whether the child runs a task."""
        return (cls.busy / str(child)).exists()


class Kill(threading.Thread):
    """Kills one child, one at work if there is one soon."""

    def __init__(self, due: float) -> None:
        super().__init__(daemon=True)
        self._due = time.monotonic() + due
        self.is_over = threading.Event()
        """Set when the test has ended, which is then too early for a kill."""
        self.killed = "too late"

    def run(self) -> None:
        if self.is_over.wait(max(0.0, self._due - time.monotonic())):
            return
        while not self.is_over.wait(0.001):
            children = Worker.children()
            at_work = [child for child in children if Worker.is_at_work(child)]
            if at_work or (children and time.monotonic() > self._due + LOOKED):
                with suppress(ProcessLookupError):
                    os.kill((at_work or children)[0], signal.SIGKILL)
                    self.killed = "at work" if at_work else "idle"
                    return


@pytest.fixture(scope="session")
def celery_session_worker(
    celery_session_app: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """A worker process with one child."""
    Worker.busy = tmp_path_factory.mktemp("busy")
    command = [
        *(sys.executable, "-m", "celery", "-A", "tests.canvas.worker_app", "worker"),
        *("--pool", "prefork", "--concurrency", "1", "--without-gossip", "--without-mingle"),
        *("--loglevel", "WARNING"),
    ]
    environment = {**os.environ, "CANVAS_BUSY": str(Worker.busy)}
    environment["PYTHONPATH"] = f"{os.getcwd()}{os.pathsep}{environment['PYTHONPATH']}"
    Worker.process = subprocess.Popen(command, env=environment)
    try:
        until = time.monotonic() + READY
        while not celery_session_app.control.ping(timeout=1):
            assert Worker.process.poll() is None, "the worker has ended"
            assert time.monotonic() < until, "the worker does not answer"
        yield
    finally:
        Worker.process.terminate()
        try:
            Worker.process.wait(10)
        except subprocess.TimeoutExpired:
            Worker.process.kill()
            Worker.process.wait()
        Worker.process = None


# The suite's conftest takes it from there.
celery.contrib.pytest.celery_session_worker = celery_session_worker


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Kill a child at a moment drawn by the seed and the test's name."""
    chance = random.Random(f"{os.environ[SEED]} {item.nodeid}")
    kill = Kill(LATEST * chance.random() ** 3)
    kill.start()
    try:
        yield
    finally:
        kill.is_over.set()
        kill.join()
        item.user_properties.append(("killed", kill.killed))

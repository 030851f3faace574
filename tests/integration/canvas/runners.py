"""Run a canvas on plain Celery, or as nodes: the same tasks, the same tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery, current_app
from redis import Redis

from backbeat_celery import NodeResult, signal
from backbeat_celery.testing import Simulation
from tests.integration.canvas import plain, world
from tests.waiting import until

QUIET = 4
"""Looks in a row that find nothing to do: a message on its way into a worker is in no list."""


class PlainWorker:
    """A worker process that knows the tasks, and nothing of Django or of this package."""

    def __init__(self, url: str, prefix: str, folder: Path) -> None:
        self.app = plain.make_app(url, prefix)
        self._redis, self._prefix = Redis.from_url(url), prefix
        self._log = folder / "worker.log"
        environment = {
            **{plain.URL: url, plain.PREFIX: prefix, world.FOLDER: str(world.folder())},
            # Nothing here is Django's: `tests` takes its Celery app from these settings alone.
            "DJANGO_SETTINGS_MODULE": "",
        }
        self._process = _start(environment, self._log)

    def wait_ready(self) -> None:
        """Wait for the first answer; it is from a worker without this package."""
        with self.current():
            answer = plain.has_package.delay()
            until(lambda: answer.ready() or self._has_died(), what=self._log.read_text)
            assert answer.get(timeout=1) is False

    def _has_died(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        return False

    @contextmanager
    def current(self) -> Iterator[Celery]:
        """Let this process be a caller of plain Celery."""
        before = current_app._get_current_object()
        self.app.set_current()
        try:
            yield self.app
        finally:
            before.set_current()

    def wait_idle(self) -> None:
        """Wait until no message is left, and none is being worked on."""
        looks = 0

        def is_quiet() -> bool:
            nonlocal looks
            looks = looks + 1 if self._messages() == 0 else 0
            return looks >= QUIET

        until(is_quiet, what=lambda: f"{self._messages()} left\n{self._log.read_text()}")

    def _messages(self) -> int:
        waiting = sum(int(self._redis.llen(self._prefix + name)) for name in plain.QUEUES)
        return waiting + int(self._redis.hlen(f"{self._prefix}unacked"))

    def stop(self) -> None:
        """End the process, and leave nothing in the Redis."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for key in self._redis.scan_iter(f"{self._prefix}*"):
            self._redis.delete(key)
        self._redis.close()


def _start(environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "celery", "-A", plain.__name__, "worker"]
    options = ["--concurrency=2", "--loglevel=warning", f"--queues={','.join(plain.QUEUES)}"]
    alone = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    root = Path(__file__).parents[3]
    with log.open("wb") as output:
        return subprocess.Popen(
            [*command, *options, *alone],
            cwd=root,
            env={**os.environ, **environment, "PYTHONPATH": str(root)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


class OnCelery:
    """Start with `apply_async()`, run by a real worker, with results in a Redis."""

    is_celery = True

    def __init__(self, worker: PlainWorker) -> None:
        self._worker = worker

    def start(self, canvas: Any, **options: Any) -> Any:
        return canvas.apply_async(**options)

    def settle(self, seconds: float = 0) -> None:
        """Wait until everything has run that is due within some seconds."""
        del seconds  # of a real clock, on which all of it passes
        self._worker.wait_idle()

    def result(self, id: str) -> Any:
        return self._worker.app.AsyncResult(id)


class OnNodes:
    """Start with `signal()`, run in a Simulation."""

    is_celery = False

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim

    def start(self, canvas: Any, **options: Any) -> Any:
        return NodeResult(signal(canvas.set(**options), subject="703").pk)

    def settle(self, seconds: float = 0) -> None:
        """Run everything that is due within some seconds."""
        self.sim.run()
        if seconds:
            self.sim.advance(seconds=seconds)

    def result(self, id: str) -> Any:
        return NodeResult(id)


Runner = OnCelery | OnNodes

"""Real Celery workers in processes of their own, and what they wrote."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db import connection

from tests import pace, services
from tests.waiting import until

LEASE = round(pace.allowed(6))
"""Seconds: long enough for a busy machine to renew it, short enough to wait for its end."""
FAST = {"LEASE": LEASE, "SWEEP_INTERVAL": 1}


class Worker:
    """One `celery worker`, killed with all its children at the end."""

    count = 0

    def __init__(self, log: Path, **options: Any) -> None:
        Worker.count += 1
        self.name = f"w{Worker.count}"
        self.output = log.with_name(f"{self.name}.log")
        self.process = subprocess.Popen(
            self._command(options),
            env=self._environment(log, options),
            stdout=self.output.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _command(self, options: dict[str, Any]) -> list[str]:
        pool, size = options.get("pool", "prefork"), options.get("size", 2)
        command = [sys.executable, "-m", "celery", "-A", "tests.celery_app", "worker"]
        command += [
            "-P",
            pool,
            "-c",
            str(size),
            "-n",
            f"{self.name}@{services.run_id()}",
            "-l",
            "INFO",
        ]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        if queues := options.get("queues"):
            command += ["-Q", queues]
        return command

    def _environment(self, log: Path, options: dict[str, Any]) -> dict[str, str]:
        settings = {**FAST, **options.get("settings", {})}
        return {
            **os.environ,
            services.DATABASE_NAME: str(connection.settings_dict["NAME"]),
            "BACKBEAT_TEST_SETTINGS": json.dumps(settings),
            "BACKBEAT_TEST_LOG": str(log),
            "PYTHONWARNINGS": "default",
            **options.get("env", {}),
        }

    def wait_ready(self) -> Worker:
        until(lambda: b" ready." in self.output.read_bytes(), 120, self.tail)
        return self

    def tail(self) -> str:
        """The end of what the worker printed."""
        return self.output.read_text(errors="replace")[-4000:]

    def kill(self) -> None:
        """SIGKILL the worker and its children at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=pace.allowed(60))

    def children(self) -> list[int]:
        """The process ids of the pool."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def stop(self) -> None:
        """Ask the worker to end (SIGTERM), and wait until it has."""
        self.process.terminate()
        self.process.wait(timeout=pace.allowed(60))


class Log:
    """The lines that handlers wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, **match: Any) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        found = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [line for line in found if match.items() <= line.items()]

    def labels(self, event: str = "start") -> list[str]:
        return [line["label"] for line in self.lines(event=event)]

"""Real Celery workers, and beat, in processes of their own: started, killed and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from django.conf import settings

from demo_project.shop.demo.orphans import PARENT

STOP_SECONDS = 10.0


class Worker:
    """One `celery worker` with a pool of two processes and a log file."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.is_killed = False
        with self.log.open("wb") as log:
            # In a session of its own: a Ctrl-C in the terminal does not reach the pool.
            self._process = subprocess.Popen(
                self._command(),
                cwd=settings.BASE_DIR,
                env={**os.environ, PARENT: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def hostname(self) -> str:
        """What Celery calls this worker, and so do the rows of nodes it has run."""
        return f"{self.name}@demo"

    @property
    def pid(self) -> int:
        return self._process.pid

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "celery", "-A", "demo_project", "worker"]
        command += ["--hostname", self.hostname, "--concurrency", "2", "--loglevel", "INFO"]
        return [*command, "--without-gossip", "--without-mingle", "--without-heartbeat"]

    def is_ready(self) -> bool:
        return b" ready." in self.log.read_bytes()

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def tail(self, lines: int = 20) -> str:
        """The end of what the worker has printed."""
        text = self.log.read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def kill(self) -> None:
        """End the worker and its pool at once, without a chance to clean up."""
        self.is_killed = True
        # Also when the main process is gone: its pool may have outlived it.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def ask_to_stop(self) -> None:
        """Let the main process end its pool. The pool itself gets no signal: it would hang."""
        if self.is_alive():
            self._process.terminate()


class Beat(Worker):
    """One `celery beat` that reads its schedules from the database."""

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "celery", "-A", "demo_project", "beat"]
        command += ["--scheduler", "django_celery_beat.schedulers:DatabaseScheduler"]
        return [*command, "--max-interval", "1", "--pidfile", "", "--loglevel", "INFO"]

    def is_ready(self) -> bool:
        return b"beat: Starting..." in self.log.read_bytes()


class Crew:
    """All workers of one demo, and its beat."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.all: list[Worker] = []
        self.beat: Beat | None = None
        self.others: list[Worker] = []

    def start_beat(self) -> Beat:
        """Start the one beat: a second one would fire everything twice."""
        self.beat = Beat("beat", self._folder)
        return self.beat

    def hire(self) -> Worker:
        """Start one more worker."""
        worker = Worker(f"w{len(self.all) + 1}", self._folder)
        self.all.append(worker)
        return worker

    @property
    def alive(self) -> list[Worker]:
        return [worker for worker in self.all if worker.is_alive()]

    @property
    def fallen(self) -> list[Worker]:
        """Processes that have ended although nobody told them to."""
        return [w for w in self._everybody if not w.is_alive() and not w.is_killed]

    @property
    def _everybody(self) -> list[Worker]:
        return [*self.all, *([self.beat] if self.beat else []), *self.others]

    def named(self, hostname: str) -> Worker | None:
        return next((p for p in self._everybody if p.hostname == hostname), None)

    def are_ready(self) -> bool:
        """Tell whether all can take work, or some never will."""
        return bool(self.fallen) or all(worker.is_ready() for worker in self.alive)

    def stop(self) -> None:
        """Stop every process: politely, then for good. No process is left after this."""
        for process in self._everybody:
            process.ask_to_stop()
        deadline = time.monotonic() + STOP_SECONDS
        while any(p.is_alive() for p in self._everybody) and time.monotonic() < deadline:
            time.sleep(0.1)
        for process in self._everybody:
            process.kill()

"""The workers of a run: real prefork workers, some with a clock that is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests import services
from tests.chaos import agent, notes, previous
from tests.real.workers import Worker

STOPPED = ("T", "t")
PREFETCH = (1, 4)
"""The multipliers of the workers, by turns: one that we advise, and Celery's own."""


class ChaosWorker(Worker):
    """A worker that obeys the harness's flags and reaches the database through the proxy."""

    def __init__(self, fleet: Fleet, slot: int) -> None:
        self.fleet = fleet
        self.slot = slot
        self.is_frozen = False
        self.is_old = slot in fleet.pythons
        super().__init__(fleet.folder / "handlers.jsonl", size=fleet.size)

    @property
    def hostname(self) -> str:
        """The name that the worker writes on the nodes it claims."""
        return f"{self.name}@{services.run_id()}"

    def _command(self, options: dict[str, Any]) -> list[str]:
        command = super()._command(options)
        command[command.index("tests.celery_app")] = "tests.chaos.app"
        command += ["--prefetch-multiplier", str(PREFETCH[self.slot % len(PREFETCH)])]
        if python := self.fleet.pythons.get(self.slot):
            # The current folder comes first on Python's path: there, that has no package.
            place = previous.folder_of_tests(self.fleet.folder)
            command = ["env", "-C", str(place), str(python), *command[1:]]
        return command

    def _environment(self, log: Path, options: dict[str, Any]) -> dict[str, str]:
        environment = {
            **os.environ,
            "BACKBEAT_TEST_SETTINGS": json.dumps(self.fleet.settings),
            "PYTHONWARNINGS": "default",
            notes.LOG: str(log),
            agent.FLAGS: str(self.fleet.flags),
            agent.NAME: self.name,
            **self.fleet.environments[self.slot],
        }
        if self.is_old:
            del environment[agent.FLAGS]  # its points are not those of today
        if skew := self.fleet.skews.get(self.slot):
            environment |= skewed(skew, self.fleet.folder)
        return environment

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def freeze(self, pid: int | None = None) -> None:
        """Stop the worker with its children, or one process of it."""
        self._send(signal.SIGSTOP, pid)

    def thaw(self, pid: int | None = None) -> None:
        self._send(signal.SIGCONT, pid)

    def _send(self, number: int, pid: int | None) -> None:
        with suppress(ProcessLookupError):
            if pid is None:
                os.killpg(self.process.pid, number)
            else:
                os.kill(pid, number)

    def pool(self) -> list[int]:
        """The process ids of its children; none when it is gone."""
        try:
            return self.children()
        except (FileNotFoundError, ProcessLookupError):
            return []


class Fleet:
    """All workers of a run; each that dies is replaced."""

    def __init__(
        self,
        folder: Path,
        *,
        size: int,
        settings: dict[str, Any],
        environments: list[dict[str, str]],
        skews: dict[int, float],
    ) -> None:
        self.folder = folder
        self.flags = folder / "flags"
        self.flags.mkdir()
        self.size = size
        self.settings = settings
        self.environments = environments
        self.skews = skews
        self.pythons: dict[int, Path] = {}
        """Slots whose worker runs an earlier version, and the Python that has it."""
        self.workers: list[ChaosWorker] = []
        self.ended: list[ChaosWorker] = []

    def start(self) -> None:
        """Start a worker in each slot and wait until they are ready."""
        self.workers = [ChaosWorker(self, slot) for slot in range(len(self.environments))]
        for worker in self.workers:
            worker.wait_ready()

    def replace(self, worker: ChaosWorker) -> ChaosWorker:
        """Start another one in the same slot: with the same clock and the same proxy."""
        self.workers.remove(worker)
        self.ended.append(worker)
        self.workers.append(ChaosWorker(self, worker.slot))
        return self.workers[-1]

    def replace_dead(self) -> list[ChaosWorker]:
        """Replace those that ended by themselves, which the harness has not done."""
        dead = [worker for worker in self.workers if not worker.is_alive()]
        for worker in dead:
            worker.kill()  # its children, which may live on
            self.replace(worker)
        return dead

    def awake(self) -> list[ChaosWorker]:
        return [w for w in self.workers if w.is_alive() and not w.is_frozen]

    def stop(self) -> None:
        for worker in [*self.workers, *self.ended]:
            worker.thaw()
            worker.kill()

    def flag(self, name: str, text: str = "") -> None:
        """Raise a flag for all workers."""
        fresh = self.folder / f"new-{name}"
        fresh.write_text(text)
        fresh.rename(self.flags / name)

    def lower(self, name: str) -> None:
        (self.flags / name).unlink(missing_ok=True)


def skewed(seconds: float, folder: Path) -> dict[str, str]:
    """An environment in which the time of day is another one; the monotonic clock is not.

    A small library does it where there is a C compiler; else Python's `time.time` is patched,
    which `datetime.now` does not follow.
    """
    library = folder / "skew.so"
    if not library.exists() and (compiler := shutil.which("cc") or shutil.which("gcc")):
        source = Path(__file__).with_name("skew.c")
        command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
        subprocess.run(command, check=True)
    environment = {agent.SKEW: f"{seconds:.0f}"}
    return {**environment, "LD_PRELOAD": str(library)} if library.exists() else environment

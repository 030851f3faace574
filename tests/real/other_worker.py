"""A worker of another code base, in a virtual environment that has Celery and nothing of ours."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import venv
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

from tests import pace, services
from tests.waiting import until

HERE = Path(__file__).parent / "other"
CACHE = Path(__file__).parents[2] / ".tox"
PACKAGES = [f"celery[redis]=={version('celery')}", "sqlalchemy>=2"]
"""SQLAlchemy is for the embedded broker; nothing here needs Django."""


@cache
def python() -> Path:
    """The other code base's Python, made at first use and kept between runs."""
    number = f"{sys.version_info.major}.{sys.version_info.minor}"
    home = CACHE / f"other-{version('celery')}-py{number}"
    CACHE.mkdir(exist_ok=True)
    with home.with_name(f"{home.name}.lock").open("w") as lock:
        # The suite runs in several processes: one makes it, the others wait.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            make(home)
    return home / "bin" / "python"


def make(home: Path) -> None:
    """Make the virtual environment `home`; without a package index, skip."""
    venv.create(home, with_pip=True, clear=True)
    found = home / "bin" / "python"
    install = [str(found), "-m", "pip", "install", "--quiet", *PACKAGES]
    try:
        subprocess.run(
            install, check=True, capture_output=True, text=True, timeout=pace.allowed(300)
        )
    except (subprocess.SubprocessError, OSError) as exc:
        told = getattr(exc, "stderr", None) or exc
        unavailable(f"cannot install Celery into an environment of its own: {told}")
    (home / "complete").touch()


def unavailable(reason: str) -> None:
    """Skip for a reason; in CI, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class OtherWorker:
    """One `celery worker` of the other code base, killed with its children at the end."""

    count = 0

    def __init__(self, folder: Path, queue: str = "") -> None:
        OtherWorker.count += 1
        self.queue = queue or f"other-{services.run_id()}"
        self.log = folder / "other.log"
        self.log.touch()
        self._output = folder / f"other-{OtherWorker.count}.out"
        name = f"other{OtherWorker.count}@{services.run_id()}"
        command = [str(python()), "-m", "celery", "-A", "app", "worker", "-Q", self.queue]
        command += ["-c", "2", "-n", name, "-l", "INFO"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        self.process = subprocess.Popen(
            command,
            cwd=HERE,
            env=self._environment(),
            stdout=self._output.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _environment(self) -> dict[str, str]:
        """As little of ours as possible."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONDONTWRITEBYTECODE": "1",
            "OTHER_BROKER_URL": services.broker_url(services.broker_kind()),
            "OTHER_QUEUE": self.queue,
            "OTHER_LOG": str(self.log),
        }

    def wait_ready(self) -> OtherWorker:
        until(lambda: b" ready." in self._output.read_bytes(), 60, self.tail)
        return self

    def tail(self) -> str:
        return self._output.read_text(errors="replace")[-4000:]

    def output(self) -> bytes:
        """What it printed."""
        return self._output.read_bytes()

    def lines(self) -> list[str]:
        """What its tasks noted."""
        return self.log.read_text().splitlines()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=pace.allowed(60))

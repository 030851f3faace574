"""A worker of the release before the package was installed, on the queue of all others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from celery import current_app

HERE = Path(__file__).parent / "foreign"
REFUSED = b"Refusing to deserialize untrusted content"


class ForeignWorker:
    """One `celery worker` that has the tasks, and neither this package nor Django."""

    def __init__(self, folder: Path, log: Path) -> None:
        self._output = folder / "foreign.log"
        command = f"{sys.executable} -m celery -A app worker -c 1 -n foreign".split()
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        with self._output.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=HERE,
                env=self._environment(log),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _environment(self, log: Path) -> dict[str, str]:
        conf = current_app.conf
        return {
            "PATH": os.environ["PATH"],
            "PYTHONDONTWRITEBYTECODE": "1",
            "FOREIGN_BROKER": conf.broker_url,
            "FOREIGN_QUEUE": conf.task_default_queue,
            "FOREIGN_OPTIONS": json.dumps(conf.broker_transport_options or {}),
            "FOREIGN_LOG": str(log),
        }

    def refused(self) -> int:
        """How many messages it has refused."""
        return self._output.read_bytes().count(REFUSED)

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=30)

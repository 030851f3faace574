"""The app of a worker outside of pytest's process: `celery -A tests.canvas.worker_app worker`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery, signals

if "DJANGO_SETTINGS_MODULE" in os.environ:
    import django

    django.setup()

# As the suite's own conftest has it.
app = Celery("canvas", broker=os.environ["TEST_BROKER"], backend=os.environ["TEST_BACKEND"])
app.conf.update(
    imports=["t.integration.tasks"],
    result_extended=True,
    task_create_missing_queues=False,
    broker_connection_retry_on_startup=True,
)

BUSY = Path(os.environ["CANVAS_BUSY"])
"""A folder with a file for each child that runs a task, named by its process id."""


@signals.task_prerun.connect(weak=False)
def _begin(**_: Any) -> None:
    (BUSY / str(os.getpid())).touch()


@signals.task_postrun.connect(weak=False)
def _end(**_: Any) -> None:
    (BUSY / str(os.getpid())).unlink(missing_ok=True)

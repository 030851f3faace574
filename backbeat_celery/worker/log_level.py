"""Celery's own line about a task call that ended with an error.

A node that has failed for good is an error that we log, with the node's id. Celery's line about
the same call stays, since it has the message's id, but not as a second error.
"""

from __future__ import annotations

import logging

from backbeat_celery.runtime.compat.celery import app_in_use, running_task
from backbeat_celery.worker.current_run import run_of


def demote(record: logging.LogRecord) -> None:
    """Make INFO of Celery's line about the failed node that is the current task's."""
    data = getattr(record, "data", None)
    task = running_task(app_in_use())
    if task is None or not isinstance(data, dict) or data.get("internal"):
        return
    run = run_of(task.request)
    if run is not None and run.is_failed and data.get("id") == task.request.id:
        record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)

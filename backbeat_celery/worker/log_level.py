"""Lower the level of Celery's log record about a failed node.

The engine logs an error when a node has failed for good, with the node's id. Celery's record
about the same task call has the message's id, so it stays, but not as a second error.
"""

from __future__ import annotations

import logging

from backbeat_celery.runtime.compat.celery import app_in_use, running_task
from backbeat_celery.worker.current_run import run_of


def demote(record: logging.LogRecord) -> None:
    """Set Celery's record to INFO if it is about the failed node of the current task."""
    data = getattr(record, "data", None)
    task = running_task(app_in_use())
    if task is None or not isinstance(data, dict) or data.get("internal"):
        return
    run = run_of(task.request)
    if run is not None and run.is_failed and data.get("id") == task.request.id:
        record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)

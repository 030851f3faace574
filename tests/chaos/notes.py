"""What handlers write down: a line at each start and each end, in a file apart from the database.

The file is appended to with one write a line: it tells what ran, whatever the database says.
Times in it are of the machine's monotonic clock, which no skew of a worker's own clock touches.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery import current_task

from backbeat_celery import current_node

LOG = "BACKBEAT_CHAOS_LOG"
CONTEXT, AMBIENT = "chaos-context", "chaos-ambient"
"""Headers: one that a signal or a spawn names, one that a publisher's surroundings add."""

_log = (
    os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT) if LOG in os.environ else -1
)


def note(event: str, given: Any = None) -> None:
    """Append a line about the running node, and about what its handler was given."""
    if _log < 0:
        return
    node = current_node()
    headers = current_task.request.headers or {}
    line = {
        "event": event,
        "node": str(node.id),
        "attempt": node.attempt,
        "pid": os.getpid(),
        "at": time.monotonic(),
        "context": headers.get(CONTEXT),
        "ambient": headers.get(AMBIENT),
        "given": given,
    }
    os.write(_log, (json.dumps(line, default=str) + "\n").encode())

"""Settings that both projects have."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests import services

os.environ.setdefault("BACKBEAT_TEST_DB", "postgres")
os.environ.setdefault("BACKBEAT_TEST_BROKER", "redis")

SECRET_KEY = "neighbours"
BACKBEAT: dict[str, Any] = {
    "LEASE": 4,
    "SWEEP_INTERVAL": 1,
    "REDACT": ["card"],
    **json.loads(os.environ.get("BACKBEAT_TEST_SETTINGS", "{}")),
}
BROKER = services.broker_url("redis")
DATABASE = services.database_settings()
RUN = Path(os.environ.setdefault("BACKBEAT_TEST_NEIGHBOURS", str(services.scratch())))
"""Where the processes of a run write what they have seen."""


def note(file_name: str, /, **seen: Any) -> None:
    """Write a line; several processes may do so at once."""
    with (RUN / file_name).open("a") as file:
        file.write(json.dumps(seen, default=str) + "\n")


def notes(file_name: str, /, **match: Any) -> list[dict[str, Any]]:
    """The lines that were written, those that have these values."""
    path = RUN / file_name
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if match.items() <= line.items()]

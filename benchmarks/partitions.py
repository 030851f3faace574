"""Partition the tables of a database as docs/planning.md tells, by the hour around now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[1] / "docs" / "sql" / "partition.sql"
HOURS = 6


def partition(cursor: Any) -> datetime:
    """Make twelve partitions, half of them ahead; give when the one named `h6` begins."""
    now = datetime.now(UTC)
    cursor.execute(SCRIPT.read_text().replace("%", "%%"), ())
    cursor.execute("SELECT backbeat_partition(%s)", [now - timedelta(hours=HOURS)])
    for hour in range(-HOURS, HOURS):
        span = [now + timedelta(hours=hour), now + timedelta(hours=hour + 1)]
        cursor.execute("SELECT backbeat_add_partition(%s, %s, %s)", [f"h{hour + HOURS}", *span])
    return now

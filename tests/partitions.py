"""The tables of a test database, partitioned if the run asks for it."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from benchmarks import partitions

VARIABLE = "BACKBEAT_TEST_PARTITIONS"


def wanted() -> bool:
    """Whether the whole run is to be on partitioned tables."""
    return bool(os.environ.get(VARIABLE))


def partition(connection: Any) -> datetime:
    """Partition by the hour around now; give when the partition named `h6` begins."""
    with connection.cursor() as cursor:
        return partitions.partition(cursor)

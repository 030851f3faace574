"""Time-ordered identifiers: UUID version 7 (RFC 9562, section 5.7), made by the client.

A child has its id before it is inserted, and new entries go to the end of the primary key's index.
"""

from __future__ import annotations

import os
import threading
import time
from uuid import UUID

FIRST = UUID(int=0)
"""Sorts before every id: the start of a scan that is ordered by id."""

_lock = threading.Lock()
_last = 0

# A forked child must not inherit a lock that another thread holds.
os.register_at_fork(
    before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
)


def uuid7() -> UUID:
    """Make an id that sorts after all ids that this process has made before."""
    global _last
    with _lock:
        # 48 bits of milliseconds, then 12 bits of their fraction.
        ticks = max(time.time_ns() * 4096 // 1_000_000, _last + 1)
        _last = ticks
    milliseconds, fraction = divmod(ticks, 4096)
    tail = int.from_bytes(os.urandom(8), "big") >> 2
    return UUID(int=milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | tail)

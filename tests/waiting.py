"""Wait for a condition with a deadline; never sleep and hope."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    condition: Callable[[], T], seconds: float = 60, what: str | Callable[[], str] = ""
) -> T:
    """Call `condition` until it gives something true; fail at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            told = what() if callable(what) else what
            raise AssertionError(f"Not so after {seconds} s: {told or condition}")
        time.sleep(0.05)

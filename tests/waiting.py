"""Wait for a condition with a deadline that grows with the machine; never sleep and hope."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tests import pace

T = TypeVar("T")


def until(
    condition: Callable[[], T], seconds: float = 60, what: str | Callable[[], str] = ""
) -> T:
    """Call `condition` until it gives something true; fail at the deadline.

    `seconds` is more than enough on a quiet machine; a slow one gets more.
    """
    begun = time.monotonic()
    while True:
        if found := condition():
            return found
        passed = time.monotonic() - begun
        if passed > seconds and passed > pace.allowed(seconds):
            told = what() if callable(what) else what
            raise AssertionError(f"Not so after {passed:.0f} s: {told or condition}")
        time.sleep(0.05)

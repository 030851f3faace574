"""How slow this machine is now, so that limits are for hangs and never for slow machines."""

from __future__ import annotations

import time

QUICK = 0.04
"""Seconds that the probe takes on a quiet machine of the kind that these limits were set on."""

FRESH = 5.0
"""Seconds for which a measurement is taken for true."""

MOST = 6.0
"""What is waited for longer than this many times its limit hangs on any machine."""

_measured: tuple[float, float] = (float("-inf"), 1.0)
_slowest = 1.0


def slowness() -> float:
    """Tell how many times as long as on a quiet machine things have taken; at least 1.

    A slow processor and processors that others use come to the same. The slowest phase that
    this process has seen counts: what is waited for may have begun in it.
    """
    global _measured, _slowest
    at, factor = _measured
    if time.monotonic() - at > FRESH:
        factor = min(max(_probe() / QUICK, 1.0), MOST)
        _measured = (time.monotonic(), factor)
        _slowest = max(_slowest, factor)
    return _slowest


def allowed(seconds: float) -> float:
    """The limit for what takes far less than `seconds` on a quiet machine."""
    return seconds * slowness()


def _probe() -> float:
    begun = time.perf_counter()
    total = 0
    for number in range(1_000_000):
        total += number
    assert total
    return time.perf_counter() - begun

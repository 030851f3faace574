"""Exponential backoff, as retries, messages and repeated transactions use it."""

from __future__ import annotations


def exponential(base: float, exponent: int, longest: float) -> float:
    """Give `base` seconds doubled `exponent` times, but at most `longest` seconds."""
    # A larger power would overflow; `longest` is reached long before.
    return min(base * 2.0 ** min(exponent, 512), longest)

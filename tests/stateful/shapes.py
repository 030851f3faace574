"""Random trees as plain data: what handlers are called with and the model is built from.

A tree is grown from a seed and a size, not drawn choice by choice: that would use up what
Hypothesis allows one example, and leave nothing for what happens to the tree.
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

LEAST = {"mode": "blocking", "barrier": False, "delay": None, "key": None, "failures": 0}
MODES = ["blocking", "non_blocking", "fire_and_forget"]
DELAYS = [None] * 9 + [5, 61, 3600]
KEYS = [None] * 8 + ["k1", "k2"]
FAILURES = [0] * 9 + [1, 2, 3]


def grow(seed: int, size: int, *, is_signal: bool = False) -> dict[str, Any]:
    """Grow a tree of about that size; labels are given when it is used."""
    return _grow(random.Random(seed), size, is_signal)


def _grow(rng: random.Random, size: int, is_signal: bool) -> dict[str, Any]:
    is_flag = not is_signal and size <= 1 and rng.random() < 0.2
    shape = {**LEAST, "kind": rng.choice(["patient", "patient", "brittle"]), "children": []}
    shape.update(mode=rng.choice(MODES), delay=rng.choice(DELAYS), key=rng.choice(KEYS))
    if is_flag:
        shape["kind"] = "flag"
    else:
        shape["failures"] = rng.choice(FAILURES)
    if not is_signal:
        shape["barrier"] = shape["mode"] == "blocking" and rng.random() < 0.4
    rest = size - 1
    while rest > 0:
        part = rng.randint(1, rest)
        shape["children"].append(_grow(rng, part, is_signal=False))
        rest -= part
    return shape


SEEDS = st.integers(0, 2**32)
SIGNALS = st.builds(grow, SEEDS, st.integers(1, 9), is_signal=st.just(True))
CHILDREN = st.builds(grow, SEEDS, st.integers(1, 3))

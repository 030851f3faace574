"""The machine without Hypothesis: every seed is a day of storms, the same each time."""

from __future__ import annotations

import random

from tests.stateful.machine import NAMES, SUBJECTS, Machine
from tests.stateful.shapes import grow


def weather(seed: int) -> None:
    """Run the machine once; raise what it finds."""
    rng = random.Random(seed)
    machine = Machine()
    try:
        for _ in range(rng.randint(1, 4)):
            shape = grow(rng.getrandbits(32), rng.randint(1, 9), is_signal=True)
            machine.signal(shape, (rng.choice(NAMES), rng.choice(SUBJECTS)))
            machine.storm(rng.getrandbits(32), rng.randint(1, 8))
    finally:
        machine.teardown()

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
        for _ in range(rng.randint(1, 12)):
            shape = grow(rng.getrandbits(32), rng.randint(1, 9), is_signal=True)
            if rng.random() < 0.2:
                machine.signal_canvas(rng.getrandbits(32), rng.randint(1, 7))
            elif rng.random() < 0.1:
                machine.link(shape, _pair(rng), rng.randint(0, 99))
            else:
                machine.signal(shape, _pair(rng))
            machine.storm(rng.getrandbits(32), rng.randint(1, 3))
    finally:
        machine.teardown()


def _pair(rng: random.Random) -> tuple[str, str]:
    # A failed signal holds back all that come after it: some workflows must be fresh.
    return rng.choice(NAMES), rng.choice([*SUBJECTS, *(f"lens {n}" for n in range(20))])

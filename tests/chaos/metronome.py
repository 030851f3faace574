"""Faults that come by the clock, as long as there is work: every so many seconds, drawn anew."""

from __future__ import annotations

import random
import time

from tests.chaos.arena import Arena, Blow
from tests.chaos.faults import FAULTS


class Metronome:
    """Inflicts each fault of a profile's `every` at intervals drawn from the seed."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.rng = random.Random(f"metronome {arena.rng.random()}")
        self.blows: list[Blow] = []
        self._next: dict[str, float] = {}

    def strike(self) -> None:
        """Inflict what is due; one that would hit nothing is tried again at once."""
        for kind, (least, most) in self.arena.profile.every.items():
            at = self._next.setdefault(kind, time.monotonic() + self.rng.uniform(least, most))
            if time.monotonic() < at:
                continue
            blow = FAULTS[kind](self.arena)
            if blow is not None:
                self._next[kind] = time.monotonic() + self.rng.uniform(least, most)
                self.blows.append(blow)
                self.arena.tell(f"{kind}: {len(blow.nodes)} nodes {blow.detail}")

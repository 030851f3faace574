"""Inflicts the planned faults, spread over the run by its progress, in an order from the seed."""

from __future__ import annotations

import random
import time
from collections import Counter

from tests.chaos.arena import Arena, Blow
from tests.chaos.faults import FAULTS

EARLIEST, LATEST = 0.02, 0.98
NEEDS_SERVER = {
    *("restart database", "cut commit", "partition", "half open", "slow network"),
    *("end connection", "sick connection", "locked row"),
}
NEEDS_POSTGRES = {"read-only database"}
"""MariaDB's read_only does not hold for those who may administrate it, as the harness's user."""


class Nemesis:
    """The schedule: at which share of the planned nodes which fault strikes."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.planned = Counter(possible(arena))
        rng = random.Random(f"schedule {arena.rng.random()}")
        kinds = rng.sample(list(self.planned.elements()), self.planned.total())
        times = sorted(rng.uniform(EARLIEST, LATEST) for _ in kinds)
        self._waiting = list(zip(times, kinds, strict=True))
        self._next_try = 0.0
        self.blows: list[Blow] = []

    @property
    def is_done(self) -> bool:
        return not self._waiting

    @property
    def missing(self) -> Counter[str]:
        """Planned faults that have not hit anything unfinished."""
        return Counter(kind for _, kind in self._waiting)

    def strike(self, progress: float) -> None:
        """Inflict the faults whose time has come; one that would hit nothing is tried again."""
        if time.monotonic() < self._next_try:
            return
        self._next_try = time.monotonic() + 0.05
        due = {
            kind: item
            for item in reversed(self._waiting)
            if item[0] <= progress
            for kind in [item[1]]
        }
        for kind, item in due.items():
            blow = FAULTS[kind](self.arena)
            if blow is not None:
                self._waiting.remove(item)
                self.blows.append(blow)
                self.arena.tell(f"{kind}: {len(blow.nodes)} nodes {blow.detail}")
                return


def possible(arena: Arena) -> dict[str, int]:
    """The planned faults, without those that this pair of servers cannot have."""
    faults = dict(arena.profile.faults)
    if arena.database is None:
        faults = {kind: n for kind, n in faults.items() if kind not in NEEDS_SERVER}
    if arena.kinds[0] != "postgres":
        faults = {kind: n for kind, n in faults.items() if kind not in NEEDS_POSTGRES}
    if arena.broker is None:
        for kind in ("restart broker", "worker without the package"):
            faults.pop(kind, None)
    return faults

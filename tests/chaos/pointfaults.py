"""Faults at named points of the engine, in whichever worker process gets there first."""

from __future__ import annotations

import json

from tests.chaos.arena import Arena, Blow
from tests.chaos.faults import FAULTS
from tests.chaos.places import IN_WORKERS
from tests.chaos.profiles import KINDS, LEASE, at_point
from tests.chaos.watch import queued, running


def _register(kind: str, point: str) -> None:
    def strike(arena: Arena) -> Blow | None:
        """Arm the point; when it has struck, say what was running then."""
        flag = f"armed-{point}"
        if arena.armed.get(point) == kind:
            if (arena.fleet.flags / flag).exists():
                return None
            del arena.armed[point]
            nodes = [node for node, _ in running()] or queued()
            return Blow(f"{kind} at a point", nodes, detail=point)
        if point not in arena.armed:
            arena.armed[point] = kind
            arena.fleet.flag(flag, json.dumps({"kind": kind, "seconds": LEASE + 1.5}))
        return None

    FAULTS[at_point(kind, point)] = strike


for _kind in KINDS:
    for _point in IN_WORKERS:
        _register(_kind, _point)

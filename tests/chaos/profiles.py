"""What a run does: how many nodes, which faults and how many of each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

LEASE = 6.0
SWEEP = 1.0
SETTINGS = {
    "LEASE": LEASE,
    "SWEEP_INTERVAL": SWEEP,
    "PUBLISH_HORIZON": 5,
    # Killing is what the run is about; a node that is hit often is none the worse.
    "MAX_LOST_ATTEMPTS": 1000,
}


QUICK = {"default_retry_delay": 0.5, "retry_backoff": False, "retry_jitter": False}
"""How handlers are retried."""

KINDS = ["kill", "exception", "lose answer", "sleep"]
"""What may happen at a point of the engine."""


def at_point(kind: str, point: str) -> str:
    """The name of a fault at a point."""
    return f"{kind} at {point}"


@dataclass(frozen=True)
class Profile:
    """One size of a run."""

    nodes: int
    faults: dict[str, int]
    workers: int = 3
    children: int = 2
    backlog: int = 80
    """Unfinished nodes beyond which no new tree is begun."""
    slow_share: float = 0.004
    """Of all handlers, those that take longer than their lease, or hang."""
    brittle: int = 2
    """Of about a hundred handlers, those that fail for good and call a rescue."""
    pairs: bool = False
    """Two signals a workflow, and now and then a nested tree, instead of random trees alone."""
    every: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Faults that come by the clock, and the fewest and most seconds between two of a kind."""
    mixed: bool = False
    """Some workers run an earlier version of the package."""
    skews: dict[int, float] = field(default_factory=lambda: {1: 3600.0})
    seconds: float = 0.0
    """A run without an end by nodes lasts that long, and what it uses is watched."""
    settle: float = 15.0
    """Seconds after the last fault within which everything is done."""
    p95: float = LEASE + SWEEP + 3
    """Seconds within which 95 of 100 nodes go on after the kill that hit them."""


PROFILES = {
    "smoke": Profile(nodes=150, faults={"kill child": 3, "duplicate": 2}, workers=2, backlog=60),
    # The faults of this one are all there are, or a sample drawn from the seed.
    "points": Profile(nodes=0, faults={}, settle=30, skews={}, slow_share=0.02, brittle=8),
    "soak": Profile(nodes=0, faults={}, seconds=600, backlog=200, skews={}, settle=30),
    # 2,500 nodes in peace, and 7,000 of which 5,000 lose their message.
    "purge": Profile(nodes=5000, faults={}, skews={}),
    # DBOS's schedule: 5,000 workflows with 10,000 signals, and 30 nested trees.
    "restarts": Profile(
        nodes=10_500,
        faults={},
        every={"restart database": (5, 40)},
        pairs=True,
        backlog=300,
        skews={},
        slow_share=0,
        settle=30,
    ),
    "mixed": Profile(
        nodes=5000, faults={}, every={"roll worker": (10, 10)}, mixed=True, settle=30
    ),
    "broker": Profile(nodes=5000, faults={"restart broker": 10}, backlog=200, skews={}, settle=30),
    "network": Profile(
        nodes=4000,
        faults={"cut commit": 200, "partition": 20, "half open": 8, "slow network": 8},
        settle=30,
        skews={},
    ),
    "quick": Profile(
        nodes=2000,
        # It runs beside other work, on machines of any speed: its times are shown, and judged
        # by `full`.
        settle=math.inf,
        p95=math.inf,
        faults={
            "kill child": 18,
            "kill worker": 3,
            "terminate child": 3,
            "terminate worker": 2,
            "freeze worker": 2,
            "freeze child": 2,
            "purge queue": 2,
            "restart broker": 1,
            "restart database": 2,
            "end connection": 6,
            "cut commit": 10,
            "partition": 1,
            "slow network": 1,
            "duplicate": 6,
            "delay": 3,
            "replay": 3,
            "stop sweepers": 1,
            "many sweepers": 1,
            "mute renewals": 1,
            "sick connection": 4,
            "locked row": 3,
            "read-only database": 1,
            "cold shutdown": 2,
            "worker without the package": 1,
            "report then kill": 2,
            "retry": 8,
            "resolve": 3,
            "shutdown": 2,
            "cancel": 8,
            "cancel workflow": 1,
            "close": 8,
            "reset": 6,
            "pause": 6,
            "add child": 20,
        },
    ),
    "full": Profile(
        nodes=20_000,
        faults={
            "kill child": 160,
            "kill worker": 40,
            "terminate child": 10,
            "terminate worker": 10,
            "freeze worker": 10,
            "freeze child": 10,
            "purge queue": 12,
            "restart broker": 8,
            "restart database": 10,
            "end connection": 30,
            "cut commit": 200,
            "partition": 6,
            "slow network": 5,
            "duplicate": 40,
            "delay": 10,
            "replay": 20,
            "stop sweepers": 3,
            "many sweepers": 3,
            "mute renewals": 5,
            "sick connection": 40,
            "locked row": 20,
            "read-only database": 5,
            "cold shutdown": 10,
            "worker without the package": 4,
            "report then kill": 20,
            "retry": 80,
            "resolve": 30,
            "shutdown": 20,
            "cancel": 80,
            "cancel workflow": 5,
            "close": 60,
            "reset": 60,
            "pause": 60,
            "add child": 200,
        },
        backlog=200,
        skews={1: 3600.0, 2: -3600.0},
    ),
}

"""A database that crashes, and connections of which one end does not know the other is gone."""

from __future__ import annotations

import time
from functools import partial

from tests.chaos.arena import Arena, Blow
from tests.chaos.faults import fault
from tests.chaos.watch import running

PATIENCE = 3
LINGER = 15
"""Seconds after which the server learns of it, if it has not given up by itself."""


@fault("restart database")
def restart_database(arena: Arena) -> Blow | None:
    nodes = [node for node, _ in running()]
    if not nodes or arena.database is None:
        return None
    begun = time.monotonic()
    arena.database.crash()
    time.sleep(arena.rng.uniform(0, 2))
    arena.database.start()
    arena.crashes.append((begun, time.monotonic()))
    return Blow("restart database", nodes)


@fault("half open")
def half_open(arena: Arena) -> Blow | None:
    """The client is gone before its COMMIT; the server holds the locks and waits for more."""
    nodes = [node for node, _ in running()]
    if not nodes:
        return None
    proxy = arena.rng.choice(arena.proxies)
    proxy.tell("half_open", count=1)
    deadline = time.monotonic() + PATIENCE
    while proxy.tell("count")["halves"]:
        if time.monotonic() > deadline:
            proxy.tell("half_open", count=0)
            return None
        time.sleep(0.02)
    arena.lift_later(LINGER, partial(proxy.tell, "close_halves"))
    return Blow("half open", nodes)

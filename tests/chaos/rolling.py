"""Deployments: workers are shut down in turn, and come back as the other version."""

from __future__ import annotations

import os
import signal

from tests.chaos.arena import Arena, Blow
from tests.chaos.faults import fault
from tests.chaos.watch import ask, running

PATIENCE = 20
"""Seconds that a warm shutdown may take before it is made a cold one."""


@fault("roll worker")
def roll_worker(arena: Arena) -> Blow | None:
    """Shut the worker down that has been there longest, and start its slot anew."""
    worker = arena.fleet.workers[0]
    nodes = [node for node, _ in running(worker.hostname)]
    if not nodes:
        return None
    fleet = arena.fleet
    was_old = worker.slot in fleet.pythons
    if arena.previous is not None:
        if was_old:
            del fleet.pythons[worker.slot]
        else:
            fleet.pythons[worker.slot] = arena.previous
    os.kill(worker.process.pid, signal.SIGTERM)
    fleet.replace(worker)
    arena.later(PATIENCE, worker.kill)
    versions = ("old", "new") if was_old else ("new", "old")
    return Blow("roll worker", nodes, detail=f"{worker.name}: {' to '.join(versions)}")


def accepted_by_version(arena: Arena) -> dict[str, int]:
    """How many attempts of workers of each version were accepted."""
    fleet = arena.fleet
    old = {w.hostname for w in [*fleet.workers, *fleet.ended] if w.is_old}
    rows = ask(
        "SELECT worker, count(*) FROM backbeat_celery_attempt"
        " WHERE outcome = 'succeeded' GROUP BY worker"
    )
    earlier = sum(count for worker, count in rows if worker in old)
    return {"earlier": earlier, "this": sum(count for _, count in rows) - earlier}

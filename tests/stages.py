"""Nodes of every status, made as users make them: `STAGES[status](sim)` gives one.

Each belongs to a workflow of its own about the subject `camera`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from backbeat_celery import signal
from backbeat_celery.models import Node
from backbeat_celery.states import Status
from backbeat_celery.testing import Simulation
from tests import workflows
from tests.races.worker import take

FAR = 5 * 3600
Stage = Callable[[Simulation], Node]


def pending(sim: Simulation) -> Node:
    """Added to a node that has not run."""
    return queued(sim).add_child(workflows.done.s())


def ready(sim: Simulation) -> Node:
    """Behind another signal."""
    signal(workflows.done.s(), subject="camera", delay=FAR)
    return signal(workflows.done.s(), subject="camera")


def queued(sim: Simulation) -> Node:
    return signal(workflows.done.s(), subject="camera", delay=FAR)


def running(sim: Simulation) -> Node:
    """Claimed by a worker that does not report."""
    node = signal(workflows.done.s(), subject="camera")
    assert take(node) is not None
    return node


def retrying(sim: Simulation) -> Node:
    node = signal(workflows.flaky.s(9), subject="camera")
    sim.run()
    return node


def waiting(sim: Simulation) -> Node:
    """For a child that is due later."""
    node = signal(workflows.tree.s({"spawn": [{"delay": FAR}]}), subject="camera")
    sim.run()
    return node


def paused(sim: Simulation) -> Node:
    """Due while its workflow was paused."""
    node = signal(workflows.done.s(), subject="camera")
    node.workflow.pause()
    sim.run()
    return node


def failed(sim: Simulation) -> Node:
    node = signal(workflows.fatal.s(), subject="camera")
    sim.run()
    return node


def complete(sim: Simulation) -> Node:
    node = signal(workflows.done.s(), subject="camera")
    sim.run()
    return node


def canceled(sim: Simulation) -> Node:
    node = queued(sim)
    node.cancel()
    return node


STAGES: Mapping[Status, Stage] = {
    Status.PENDING: pending,
    Status.READY: ready,
    Status.QUEUED: queued,
    Status.RUNNING: running,
    Status.RETRYING: retrying,
    Status.WAITING: waiting,
    Status.PAUSED: paused,
    Status.FAILED: failed,
    Status.COMPLETE: complete,
    Status.CANCELED: canceled,
}


def staged(sim: Simulation, status: Status) -> Node:
    """A node that has that status now."""
    node = STAGES[status](sim)
    node.refresh_from_db()
    assert node.status == status
    return node

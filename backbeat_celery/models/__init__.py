"""The tables: workflows, their nodes, what became of them, and who sweeps."""

from backbeat_celery.models.history import Attempt, Transition
from backbeat_celery.models.node import Link, Node, node_alias
from backbeat_celery.models.sweeper import SweeperLease
from backbeat_celery.models.worker import WorkerHeartbeat
from backbeat_celery.models.workflow import Workflow

__all__ = [
    "Attempt",
    "Link",
    "Node",
    "SweeperLease",
    "Transition",
    "WorkerHeartbeat",
    "Workflow",
    "node_alias",
]

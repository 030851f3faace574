"""A worker without Celery: claims, records and advances as the task call does."""

from __future__ import annotations

from copy import deepcopy
from typing import Any
from uuid import uuid4

from backbeat_celery import signal
from backbeat_celery.engine.advance import advance
from backbeat_celery.engine.claim import Claim, NodeMessage, claim
from backbeat_celery.engine.outcomes import Succeeded
from backbeat_celery.engine.record import record
from backbeat_celery.inputs.canvas import task_spec
from backbeat_celery.inputs.policy import policy_by_name
from backbeat_celery.models import Node
from tests import workflows

PARALLEL = {"mode": "non_blocking"}
BARRIER = {"barrier": True}


def take(node: Node, attempt: int | None = None) -> Claim | None:
    """Claim the attempt that a message sent now would name."""
    number = node.attempt + 1 if attempt is None else attempt
    message = NodeMessage(node.pk, node.task, number, "default", uuid4())
    return claim(message, worker="racer", policy=policy_by_name(node.task))


def succeed(taken: Claim, *children: dict[str, Any], advances: int = 1) -> None:
    """Record a success with children, and advance as often as one likes."""
    taken.specs += [task_spec(workflows.done.s(), **options) for options in children]
    after_commit = record(taken, Succeeded())
    for _ in range(advances):
        advance(deepcopy(after_commit), "default")


def run(node: Node, *children: dict[str, Any]) -> list[Node]:
    """Run one node; give its children in order."""
    succeed(taken(node), *children)
    return list(node.children.order_by("seq"))


def taken(node: Node) -> Claim:
    """Claim a node that must be claimable."""
    node.refresh_from_db()
    mine = take(node)
    assert mine is not None
    return mine


def family(*children: dict[str, Any], subject: str = "camera") -> tuple[Node, list[Node]]:
    """A waiting signal with children."""
    parent = signal(workflows.done.s(), subject=subject)
    return parent, run(parent, *children)


def status(node: Node) -> str:
    node.refresh_from_db(fields=["status"])
    return node.status


def times(node: Node, to: str) -> int:
    """How often a node went to a status."""
    return node.transitions.filter(to_status=to).count()

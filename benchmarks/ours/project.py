"""Set Django up in a client, and check what a round has left in the tables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.ours.settings")

import django

django.setup()

from django.db import connection

from backbeat_celery import signal
from backbeat_celery.models import Attempt, Node, Transition, Workflow
from backbeat_celery.runtime.ids import uuid7
from benchmarks import ticks
from benchmarks.harness import PATIENCE, Round, Worker, wait_for_ticks, warm_up
from benchmarks.ours.app import app
from benchmarks.ours.tasks import nothing
from benchmarks.servers import until

__all__ = [
    "app",
    "check",
    "empty",
    "is_complete",
    "run_tree",
    "started_worker",
    "wait_until_complete",
]

FULL = "backbeat_full"
_begun = UUID(int=0)


def empty() -> None:
    """Begin with empty tables; with those that are to be full, look at later rows only."""
    global _begun
    _begun = uuid7()
    if connection.settings_dict["NAME"] == FULL:
        return
    tables = ", ".join(f'"{m._meta.db_table}"' for m in (Workflow, Node, Transition, Attempt))
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {tables} CASCADE")


@contextmanager
def started_worker(queues: str = "bench") -> Iterator[Worker]:
    """A worker that has run its first nodes, and empty tables."""
    empty()
    first = uuid7()
    with Worker("benchmarks.ours.app", queues) as worker:
        queue = queues.split(",")[0]
        numbers = iter(range(10_000))
        warm_up(lambda: signal(nothing.s().set(queue=queue), subject=f"{first} {next(numbers)}"))
        until(lambda: not _open(nothing.name), 60, "the warm-up")
        empty()
        ticks.clear()
        yield worker


def _open(task: str) -> bool:
    nodes = Node.objects.filter(id__gte=_begun, task=task)
    return nodes.exclude(status="complete").exists()


def is_complete(node: Any) -> bool:
    """Whether a node is complete by now."""
    return Node.objects.filter(pk=node.pk, status="complete").exists()


def wait_until_complete(node: Any) -> None:
    """Wait for a node and its whole tree."""
    until(lambda: is_complete(node), PATIENCE, f"node {node}")


def run_tree(run: Round, signature: Any, nodes: int) -> None:
    """Time one signal whose tree calls a handler for each unit of the round, and check it."""
    with started_worker() as worker:
        with run.timed(run.size, worker):
            node = signal(signature, subject="all")
            wait_for_ticks(run.size)
            wait_until_complete(node)
        check(nodes)


def check(nodes: int) -> None:
    """Refuse a round that left something undone or unwritten."""
    calls = Node.objects.filter(id__gte=_begun).exclude(task="")
    history = Transition.objects.filter(node_id__gte=_begun)
    attempts = Attempt.objects.filter(node_id__gte=_begun)
    counts = {
        "nodes": calls.count(),
        "complete": calls.filter(status="complete", outcome="succeeded").count(),
        "attempts": attempts.filter(outcome="succeeded").count(),
        "claims": history.filter(to_status="running").count(),
        "ends": history.filter(from_status="running").count(),
    }
    wrong = {name: count for name, count in counts.items() if count != nodes}
    if wrong:
        raise AssertionError(f"Expected {nodes} of each, found {wrong}")

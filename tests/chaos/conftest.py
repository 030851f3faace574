"""A good run without a fault, whose evidence the auditor's tests plant violations in."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import ExitStack
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import transaction

from backbeat_celery import signal
from backbeat_celery.models import Node, Workflow
from backbeat_celery.testing import Simulation
from tests.chaos import handlers
from tests.chaos.evidence import Evidence
from tests.chaos.outsiders import TASK, Report
from tests.chaos.shapes import Shape, labels
from tests.chaos.watch import Log, plain
from tests.stateful.invariants import Rows

LEAF: Shape = {"task": "work", "mode": "blocking", "children": [], "ms": 0, "fails": 0}


def leaf(label: str, **more: Any) -> Shape:
    return {**LEAF, "label": label, **more}


TREE = leaf(
    "root",
    children=[
        leaf("first", children=[leaf("first.low", context=True)], context=True),
        leaf("parallel", mode="non_blocking", delay=2),
        leaf("effect", task="atomic", fails=1),
        leaf("reported", task="awaited"),
        leaf("after", barrier=True),
        {"label": "flag", "task": "flag", "mode": "non_blocking"},
        leaf("killed", mode="fire_and_forget"),
    ],
)


@pytest.fixture(scope="package")
def good(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: Any) -> Evidence:
    """What a run without a fault leaves; read once, since nobody writes to it."""
    log = tmp_path_factory.mktemp("chaos") / "handlers.jsonl"
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        stack.enter_context(django_db_blocker.unblock())
        stack.enter_context(transaction.atomic())
        stack.callback(transaction.set_rollback, True)
        sim = stack.enter_context(Simulation())
        patch.setattr(handlers, "_log", os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
        signal(handlers.call_of(TREE), subject="camera", **handlers.options_of(TREE))
        sim.kill_next("after_handler")
        reports = [say(sim, "fail"), say(sim, "complete")]
        reports[1].was_taken = None  # its answer was lost
        sim.advance(minutes=5)
        workflow = Workflow.objects.get()
        workflow.close()
        closed = {plain(workflow.pk)}
        sim.advance(minutes=5)
        rows, lines = Rows(), Log(log).lines()
        groups = Counter(name[:36] for name in Group.objects.values_list("name", flat=True))
    return Evidence(rows, lines, set(labels([TREE])), groups, (), reports, closed)


def say(sim: Simulation, verb: str) -> Report:
    """Wait until the node that awaits a report does, and make one."""
    while not (node := Node.objects.filter(task=TASK, status="running").first()):
        sim.advance(seconds=1)
    report = Report(plain(node.pk), node.attempt, verb, time.monotonic(), was_taken=True)
    getattr(node, verb)("reported", attempt=node.attempt)
    sim.run()
    return report

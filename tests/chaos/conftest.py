"""A good run without a fault, whose evidence the auditor's tests plant violations in."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import transaction

from backbeat_celery import signal
from backbeat_celery.models import Node, Workflow
from backbeat_celery.testing import Simulation
from tests.chaos import handlers, notes
from tests.chaos.evidence import Evidence, read_values
from tests.chaos.outsiders import TASK, Report
from tests.chaos.shapes import Shape, canvases_of, labels
from tests.chaos.watch import Log, plain
from tests.integration.canvas import plays
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


def step(failures: int = 0, fate: str = "patient") -> plays.Shape:
    return ["play", failures, fate, False, None]


CANVAS = plays.labelled(
    [
        "chain",
        [
            step(),
            [
                *("chord", [["link", step()], ["chain", [step(1), step()]], step(1, "brittle")]),
                ["link_error", ["chain", [step(), ["group", [step(), step()]]]]],
            ],
            ["link_error", step(1, "brittle")],
        ],
    ],
    count(1),
    "canvas.c",
)
"""A step, a chord whose body ends in a group, and a last step; two tasks fail for good."""
CANVAS_SHAPE: Shape = {"label": "canvas", "task": "canvas", "mode": "blocking", "canvas": CANVAS}


@pytest.fixture(scope="package")
def good(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: Any) -> Evidence:
    """What a run without a fault leaves; read once, since nobody writes to it."""
    log = tmp_path_factory.mktemp("chaos") / "handlers.jsonl"
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        stack.enter_context(django_db_blocker.unblock())
        stack.enter_context(transaction.atomic())
        stack.callback(transaction.set_rollback, True)
        sim = stack.enter_context(Simulation())
        patch.setattr(notes, "_log", os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
        signal(handlers.call_of(TREE), subject="camera", **handlers.options_of(TREE))
        signal(handlers.call_of(CANVAS_SHAPE), subject="c", **handlers.options_of(CANVAS_SHAPE))
        sim.kill_next("after_handler")
        reports = [say(sim, "fail"), say(sim, "complete")]
        reports[1].was_taken = None  # its answer was lost
        sim.advance(minutes=5)
        for _ in range(2):
            Node.objects.get(status="failed").retry(by="ada")
            sim.advance(minutes=5)
        workflow = Workflow.objects.get(subject="camera")
        workflow.close()
        closed = {plain(workflow.pk)}
        sim.advance(minutes=5)
        rows, lines = Rows(), Log(log).lines()
        groups = Counter(name[:36] for name in Group.objects.values_list("name", flat=True))
        values = read_values(rows)
    return Evidence(
        *(rows, lines, set(labels([TREE, CANVAS_SHAPE])), groups, (), reports, closed, ()),
        *(canvases_of([CANVAS_SHAPE]), values),
    )


def say(sim: Simulation, verb: str) -> Report:
    """Wait until the node that awaits a report does, and make one."""
    while not (node := Node.objects.filter(task=TASK, status="running").first()):
        sim.advance(seconds=1)
    report = Report(plain(node.pk), node.attempt, verb, time.monotonic(), was_taken=True)
    getattr(node, verb)("reported", attempt=node.attempt)
    sim.run()
    return report

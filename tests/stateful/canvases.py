"""Random canvases among the trees: each has a workflow of its own, and a plan of its end."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Any
from uuid import UUID

from backbeat_celery import signal
from backbeat_celery.exceptions import NoValue
from backbeat_celery.models import Node
from backbeat_celery.testing import Call
from tests.integration.canvas.plan import Plan
from tests.integration.canvas.plays import Shape, grow, labelled, play, signature_of
from tests.stateful.invariants import Rows
from tests.stateful.steered_plan import SteeredPlan, everything_below

NAME = "canvas"
"""The name of the workflows of canvases."""


MAY_SUCCEED = [0, 0, 0, 1, 2]
"""Failures of tasks that succeed in the end."""

MAY_FAIL = [*MAY_SUCCEED, 3]
"""Of those, some fail for good, and succeed when they are retried."""


def grow_canvas(rng: random.Random, size: int, failures: Sequence[int] = MAY_SUCCEED) -> Shape:
    """Grow a canvas of about that many tasks, with so many failures of each."""

    def finish(below: Shape | None) -> Shape:
        return ["play", rng.choice(failures), "retry", rng.random() < 0.2, below]

    return labelled(grow(rng, size, finish), count(1))


class Canvases:
    """The canvases of one run of the machine."""

    def __init__(self) -> None:
        self._known: list[tuple[Node, Shape]] = []

    def signal(self, shape: Shape) -> None:
        """Signal a canvas, and remember what it is to be."""
        subject = f"canvas {len(self._known)}"
        node = signal(signature_of(shape), name=NAME, subject=subject)
        self._known.append((node, shape))

    def compare(self, calls: list[Call]) -> None:
        """Compare every canvas with its plan, and each of its calls."""
        for node, shape in self._known:
            plan = Plan(signature_of)
            value = plan.value_of(signature_of(shape))
            node.refresh_from_db()
            tasks = Node.objects.filter(workflow_id=node.workflow_id, task=play.name)
            shown = node.workflow.render(color=False)
            found = {task.kwargs["label"]: (task.status, task.outcome) for task in tasks}
            assert found == plan.statuses, shown
            for task in tasks:
                given = [call.args for call in calls if call.node_id == task.pk]
                assert given, shown
                assert all(args == plan.given[task.kwargs["label"]] for args in given), shown
            assert node.get_result() == value, shown


class SteeredCanvases(Canvases):
    """The canvases of a machine whose operator steers them, too."""

    def compare(self, calls: list[Call]) -> None:
        """Compare every canvas with what follows from what the operator did to it."""
        rows = Rows()
        given = defaultdict(list)
        for call in calls:
            given[call.node_id].append(call.args)
        for node, shape in self._known:
            top = rows.nodes[node.pk]
            plan = SteeredPlan(rows, top, signature_of, result_by_hand)
            plan.value_of(signature_of(shape))
            shown = node.workflow.render(color=False)
            assert not list(plan.missing()), shown
            found = [text for _, text in plan.otherwise(_values(rows, top))]
            assert not found, f"{found}\n{shown}"
            for task in (row for row in everything_below(rows, top) if not row.container):
                label = task.kwargs["label"]
                expected = plan.given.get(label)
                assert all(args == expected for args in given[task.id]), f"{label}\n{shown}"
                has_run = task.outcome == "succeeded"
                assert given[task.id] or not has_run, f"{label}\n{shown}"


def result_by_hand(label: str) -> Any:
    """What the operator resolves a task of a canvas with."""
    return ["by hand", label]


def _values(rows: Rows, top: Any) -> dict[UUID, Any]:
    """What the nodes of a canvas give to code that asks."""
    values = {}
    for row in everything_below(rows, top):
        with suppress(NoValue):
            values[row.id] = Node.objects.get(pk=row.id).get_result()
    return values

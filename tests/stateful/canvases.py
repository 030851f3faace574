"""Random canvases among the trees: each has a workflow of its own, and a plan of its end."""

from __future__ import annotations

import random
from itertools import count
from typing import Any

from backbeat_celery import signal
from backbeat_celery.models import Node
from backbeat_celery.testing import Call
from tests.integration.canvas.plan import Plan
from tests.integration.canvas.plays import Shape, grow, labelled, play, signature_of

NAME = "canvas"
"""The name of the workflows of canvases."""


def grow_canvas(rng: random.Random, size: int) -> Shape:
    """Grow a canvas of about that many tasks, none of which fails for good."""

    def finish(below: Shape | None) -> Shape:
        return ["play", rng.choice([0, 0, 0, 1, 2]), "retry", rng.random() < 0.2, below]

    return labelled(grow(rng, size, finish), count(1))


class Canvases:
    """The canvases of one run of the machine."""

    def __init__(self) -> None:
        self._known: list[tuple[Node, Plan, Any]] = []

    def signal(self, shape: Shape) -> None:
        """Signal a canvas, and plan its end."""
        plan = Plan(signature_of)
        value = plan.value_of(signature_of(shape))
        subject = f"canvas {len(self._known)}"
        node = signal(signature_of(shape), name=NAME, subject=subject)
        self._known.append((node, plan, value))

    def compare(self, calls: list[Call]) -> None:
        """Compare every canvas with its plan, and each of its calls."""
        for node, plan, value in self._known:
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

"""Canvases among the random trees: pure tasks whose values are known before anything runs."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from itertools import count
from typing import Any

from backbeat_celery import node_task
from tests.chaos.notes import note
from tests.chaos.profiles import QUICK
from tests.integration.canvas import plays
from tests.integration.canvas.plays import Shape, grow, labelled, tasks_of

PREFIX = "chaos.canvas."
WITHIN = ".c"
"""What stands between the label of a canvas and the number of a task in it."""
SMALLEST, LARGEST = 3, 16
"""Tasks of a canvas, its containers not counted."""


def _perform(task: Any, args: tuple[Any, ...], label: str, failures: int) -> Any:
    note("start", given=list(args))
    # Long enough for now and then a blow to hit it, and not the same for all.
    time.sleep((sum(label.encode()) % 12) / 1000)
    if task.request.retries < failures:
        note("raise")
        raise RuntimeError(f"failure {task.request.retries + 1}")
    note("end")
    return [label, *args]


@node_task(name=f"{PREFIX}patient", bind=True, max_retries=5, timeout=60, **QUICK)
def patient(self: Any, *args: Any, label: str, failures: int, fate: str, shape: None) -> Any:
    """Tell how it was called, after so many failures."""
    return _perform(self, args, label, failures)


@node_task(name=f"{PREFIX}brittle", bind=True, max_retries=0, timeout=60, **QUICK)
def brittle(self: Any, *args: Any, label: str, failures: int, fate: str, shape: None) -> Any:
    """Fail for good at the first failure, and wait for an operator."""
    return _perform(self, args, label, failures)


@node_task(name=f"{PREFIX}linked", max_retries=5, timeout=60, **QUICK)
def linked(*args: Any, label: str) -> str:
    """Called when what it is linked to has succeeded."""
    note("start", given=list(args))
    note("end")
    return label


@node_task(name=f"{PREFIX}told", max_retries=5, timeout=60, **QUICK)
def told(task_id: Any = None, *, label: str) -> str:
    """Called when what it is linked to has failed for good."""
    note("start", given=[task_id])
    note("end")
    return label


TASKS: Mapping[str, Any] = {
    **{"patient": patient, "brittle": brittle},
    **{"link": linked, "link_error": told},
}


def signature_of(shape: Shape) -> Any:
    """The canvas that a shape describes."""
    return plays.signature_of(shape, TASKS)


def grow_canvas(rng: random.Random, label: str) -> Shape:
    """Grow a canvas; its tasks are labelled below the label of the whole."""
    share = rng.choice([0, 0, 0.25])
    """Of its tasks, those that fail for good; a whole canvas is rarely free of them else."""

    def finish(below: Shape | None) -> Shape:
        del below  # nothing is replaced
        is_brittle = rng.random() < share
        failures = 1 if is_brittle else rng.choices([0, 1, 2], [90, 7, 3])[0]
        fate = "brittle" if is_brittle else "patient"
        task = ["play", failures, fate, rng.random() < 0.15, None]
        return _called_back(rng, task, 0.5 if is_brittle else 0.1)

    while True:
        shape = _called_back(rng, grow(rng, rng.randint(SMALLEST, LARGEST), finish), 0.5)
        shape = labelled(shape, count(1), f"{label}{WITHIN}")
        if len(list(tasks_of(shape))) >= SMALLEST:
            return shape


def _called_back(rng: random.Random, shape: Shape, chance: float) -> Shape:
    """Link something to a part of a canvas now and then: to its success, or its failure."""
    return [rng.choice(plays.CALLBACKS), shape] if rng.random() < chance else shape


def is_in_canvas(node: Any) -> bool:
    """Whether a row is that of a task in a canvas, or of a callback."""
    return bool(node.task.startswith(PREFIX))


def is_linked(node: Any) -> bool:
    """Whether a row is that of a callback."""
    return is_in_canvas(node) and "failures" not in node.kwargs


def label_of(node: Any) -> str | None:
    """The label of a row; a container has none, but for the outermost."""
    label: str | None = node.metadata.get("label", node.kwargs.get("label"))
    return label


def whole_of(node: Any) -> str:
    """The label of the canvas that a task or a callback is part of."""
    return str(node.kwargs["label"]).rpartition(WITHIN)[0]

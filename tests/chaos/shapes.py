"""Random trees: everything a handler will do, drawn from a seed before anything runs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.chaos.canvases import grow_canvas
from tests.integration.canvas.plays import tasks_of

Shape = dict[str, Any]
BLOCKING, PARALLEL, FORGET = "blocking", "non_blocking", "fire_and_forget"
DEEPEST = 4
KINDS = {"work": 80, "atomic": 20, "timed": 10, "awaited": 6}
CANVAS = "canvas"
"""What stands for a task where a whole canvas is called."""
NESTED_EVERY = 166
REPORTS = {
    **{"soon": 40, "early": 15, "fail": 15, "twice": 10, "both": 10, "wrong": 10},
    **{"late": 3, "never": 2},
}
"""What outsiders do about an attempt, and how often."""


@dataclass
class Tree:
    """One workflow: the signals that are sent to its subject."""

    subject: str
    signals: list[Shape]
    ambient: str | None = None
    """What the surroundings of its sender put on each message, if anything."""


@dataclass
class Workload:
    """An endless line of trees, the same for the same seed."""

    seed: int
    slow: float
    """Seconds that a slow handler takes: longer than a lease."""
    hang: float
    """Seconds that a hanging one takes: longer than its timeout."""
    slow_share: float
    brittle: int
    pairs: bool = False
    contexts: bool = True
    """Whether some trees carry headers, which each attempt has to see."""
    canvases: bool = True
    """Whether canvases are among the signals, and among what handlers spawn."""
    count: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def next_tree(self) -> Tree:
        """The next workflow of the line."""
        self.count += 1
        tree = self._tree(self.count)
        if self.contexts and self.count % 3 == 0:
            for shape in everything(tree.signals):
                shape["context"] = True
        if self.contexts and self.count % 4 == 0:
            tree.ambient = tree.subject
        return tree

    def _tree(self, number: int) -> Tree:
        rng = self.rng
        name = f"t{number}"
        if self.pairs and number % NESTED_EVERY:
            return Tree(name, [self._leaf(f"{name}.{n}", BLOCKING) for n in range(2)])
        if number % 40 == 7:
            # Now and then a wide fan-out and its join.
            width = rng.choice([50, 100, 200])
            children = [self._leaf(f"{name}.0.{n}", PARALLEL) for n in range(width)]
            children.append({**self._leaf(f"{name}.0.{width}", BLOCKING), "barrier": True})
            return Tree(name, [{**self._leaf(f"{name}.0", BLOCKING), "children": children}])
        signals = [self._grow(f"{name}.{n}", 1) for n in range(rng.choice([1, 1, 2, 3, 5]))]
        return Tree(name, signals)

    def _grow(self, label: str, depth: int) -> Shape:
        rng = self.rng
        if self.canvases and rng.random() < (0.18 if depth == 1 else 0.04):
            return self._canvas(label)
        shape = self._leaf(label, rng.choices([BLOCKING, PARALLEL, FORGET], [5, 4, 1])[0])
        if depth < DEEPEST and rng.random() < 0.75 / depth:
            for n in range(rng.randint(1, 5)):
                shape["children"].append(self._child(f"{label}.{n}", depth + 1))
        if rng.random() < 0.02:
            link = self._leaf(f"{label}.link", BLOCKING)
            shape["link"] = {**link, "subject": f"links-{rng.randrange(7)}", "children": []}
        return shape

    def _child(self, label: str, depth: int) -> Shape:
        rng = self.rng
        if rng.random() < 0.08:
            mode = rng.choice([BLOCKING, PARALLEL])
            return {"label": label, "task": "flag", "mode": mode, "delay": self._delay(0.4)}
        shape = self._grow(label, depth)
        if shape["mode"] == BLOCKING and rng.random() < 0.25:
            shape["barrier"] = True
        return shape

    def _canvas(self, label: str) -> Shape:
        mode = self.rng.choices([BLOCKING, PARALLEL, FORGET], [5, 4, 1])[0]
        shape: Shape = {"label": label, "task": CANVAS, "mode": mode, "delay": self._delay(0.05)}
        return {**shape, "canvas": grow_canvas(self.rng, label)}

    def _leaf(self, label: str, mode: str) -> Shape:
        rng = self.rng
        kinds = {**KINDS, "brittle": self.brittle}
        kind = rng.choices(list(kinds), list(kinds.values()))[0]
        shape: Shape = {"label": label, "task": kind, "mode": mode, "children": []}
        shape["ms"] = round(min(rng.expovariate(1 / 4), 50), 2)
        shape["fails"] = rng.choices([0, 1, 2], [96, 3, 1])[0]
        if kind == "brittle":
            shape["fails"] = 1
        if kind == "awaited":
            # Half of them run long enough for a report to come before they are done.
            shape["ms"] = rng.choice([shape["ms"], 300])
            shape["reports"] = rng.choices(list(REPORTS), list(REPORTS.values()), k=2)
            shape["by_token"] = rng.random() < 0.5
        shape["exits"] = rng.random() < 0.2
        shape["delay"] = self._delay(0.05)
        if rng.random() < self.slow_share:
            shape["slow"] = self.hang if kind == "timed" else self.slow
        return shape

    def _delay(self, chance: float) -> float | None:
        return round(self.rng.uniform(0.2, 2.5), 2) if self.rng.random() < chance else None


def everything(shapes: list[Shape]) -> Iterator[Shape]:
    """Shapes, everything below them, and what they link to."""
    for shape in shapes:
        yield shape
        yield from everything(shape.get("children", []))
        if link := shape.get("link"):
            yield link


def labels(shapes: list[Shape]) -> Iterator[str]:
    """The labels of shapes and of everything below them."""
    for shape in everything(shapes):
        yield shape["label"]
        if canvas := shape.get("canvas"):
            yield from tasks_of(canvas)


def canvases_of(shapes: list[Shape]) -> dict[str, Shape]:
    """The canvases among shapes and everything below them, by the labels of the whole."""
    return {shape["label"]: shape for shape in everything(shapes) if "canvas" in shape}

"""A copy of a good run's evidence, to plant violations in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos.audit import CHECKS
from tests.chaos.canvases import label_of
from tests.chaos.evidence import Evidence
from tests.chaos.verdict import Found
from tests.chaos.watch import plain

Check = Callable[[Evidence], Found]


class Scene:
    """A copy of the evidence, to plant something in."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = deepcopy(evidence)
        self.rows = self.evidence.rows

    def node(self, label: str) -> Any:
        (found,) = (n for n in self.rows.nodes.values() if label_of(n) == label)
        return found

    def at(self, label: str) -> tuple[str, int]:
        """Where the accepted attempt of a node stands in the log."""
        (attempt,) = self.evidence.accepted(self.node(label))
        return plain(self.node(label).id), attempt.number

    def forget(self, label: str) -> None:
        node = self.node(label)
        del self.rows.nodes[node.id]
        self.rows.children[node.parent_id].remove(node)
        if not self.rows.children[node.parent_id]:
            del self.rows.children[node.parent_id]

    def double(self, label: str, **values: Any) -> Any:
        """Put another node with the same label at the end of the line."""
        node = deepcopy(self.node(label))
        line = self.rows.children[node.parent_id]
        fresh = SimpleNamespace(**{**vars(node), "id": f"{node.id.hex[:31]}0", **values})
        fresh.seq, fresh.stage = line[-1].seq + 1, line[-1].stage
        line.append(fresh)
        self.rows.nodes[fresh.id] = fresh
        return fresh

    def step(self, label: str, **values: Any) -> None:
        """Add a step to a node's history."""
        steps = self.rows.history[self.node(label).id]
        steps.append(SimpleNamespace(**{**vars(steps[-1]), **values}))


class Plants:
    """What one file of tests plants; its instance decorates each function that does so."""

    def __init__(self) -> None:
        self.all: list[Any] = []

    def __call__(self, kind: str) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
        """Say how the auditor is to call what is planted."""

        def register(function: Callable[[Scene], None]) -> Callable[[Scene], None]:
            self.all.append(pytest.param(function, kind, id=function.__name__))
            return function

        return register


def found_in(
    good: Evidence, put: Callable[[Scene], None], checks: Iterable[Check] = CHECKS
) -> set[str]:
    """The kinds of violation that the auditor finds after something was planted."""
    scene = Scene(good)
    put(scene)
    return {violation.kind for check in checks for violation in check(scene.evidence)}

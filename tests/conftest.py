"""Fixtures of all levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backbeat_celery import signal
from backbeat_celery.models import Node
from backbeat_celery.testing import Simulation
from tests import workflows


@pytest.fixture
def sim(backbeat: Simulation) -> Simulation:
    return backbeat


@pytest.fixture
def run_tree(sim: Simulation) -> Callable[..., Node]:
    """Signal a tree of a given shape and run what is due."""

    def run(*children: dict[str, Any], **options: Any) -> Node:
        node = signal(workflows.tree.s({"spawn": list(children)}), subject="camera", **options)
        sim.run()
        node.refresh_from_db()
        return node

    return run


@pytest.fixture
def statuses() -> Callable[[Node], list[str]]:
    """The statuses of a node's children in order."""

    def of(node: Node) -> list[str]:
        return list(node.children.order_by("seq").values_list("status", flat=True))

    return of

"""Fixtures of the behaviour tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backbeat_celery import signal
from backbeat_celery.models import Node
from backbeat_celery.testing import Simulation
from tests import workflows


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Tell a scripted handler what to do: a function that is handed the task."""

    def write(function: Callable[[Any], Any], name: str = "main") -> None:
        monkeypatch.setitem(workflows.scripts, name, function)

    return write


@pytest.fixture
def send(sim: Simulation) -> Callable[..., Node]:
    """Signal a task and run what is due."""

    def signal_and_run(task: Any, **options: Any) -> Node:
        node = signal(task, subject="camera", **options)
        sim.run()
        node.refresh_from_db()
        return node

    return signal_and_run


def rows_of(*models: Any) -> list[list[dict[str, Any]]]:
    """Every row of some tables, to see whether anything has changed."""
    return [list(model.objects.order_by("pk").values()) for model in models]

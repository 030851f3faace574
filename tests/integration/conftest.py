"""Fixtures of the behaviour tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests import workflows


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes some seconds, for wide trees")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Tell a scripted handler what to do: a function that is handed the task."""

    def write(function: Callable[[Any], Any], name: str = "main") -> None:
        monkeypatch.setitem(workflows.scripts, name, function)

    return write

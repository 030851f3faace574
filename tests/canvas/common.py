"""A pytest plugin for both columns: what saves time and changes no test, and the end in time."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from celery.app.control import Inspect

UNTIL = "CANVAS_UNTIL"
"""The variable with the time, as of `time.time()`, after which no test begins."""
SEED = "CANVAS_KILL_SEED"
"""The variable with what the moments of kills are drawn by."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol() -> bool | None:
    """Leave out what would begin too late; such a test is in no report."""
    until = float(os.environ.get(UNTIL, "inf"))
    return True if time.time() > until else None


@pytest.fixture(scope="session", autouse=True)
def one_worker_answers() -> Any:
    """Let an inspection end with its first answer: there is one worker, and it waits a second."""
    make = Inspect.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        self.limit = self.limit or 1

    Inspect.__init__ = init  # type: ignore[method-assign]
    yield
    Inspect.__init__ = make  # type: ignore[method-assign]

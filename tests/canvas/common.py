"""A pytest plugin for both columns: what saves time and changes no test."""

from __future__ import annotations

from typing import Any

import pytest
from celery.app.control import Inspect


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

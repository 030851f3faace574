"""The project's worker, and Flower beside it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.neighbours.conftest import started
from tests.neighbours.observed import celery_app
from tests.waiting import until

APP = celery_app.__name__


@pytest.fixture(scope="session")
def flower(database: None) -> Iterator[Callable[[str], Any]]:
    """Ask Flower's API."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ["FLOWER_UNAUTHENTICATED_API"] = "true"

    def ask(path: str) -> Any:
        try:
            with urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=30) as answer:
                return json.load(answer)
        except URLError:
            return None

    with started("flower", "-A", APP, "flower", f"--port={port}") as log:
        until(lambda: ask("tasks") is not None, 120, log)
        yield ask


@pytest.fixture(scope="session", autouse=True)
def worker(run_worker: Callable[[str], Any], flower: Any) -> Iterator[Callable[[], str]]:
    """A worker of the project, started when Flower listens."""
    with run_worker(APP) as log:
        yield log

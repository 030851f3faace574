"""One database, one broker and one worker for all tests of a project: no test empties anything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.db import connection
from django.test.utils import setup_databases

from backbeat_celery.models import Node
from tests import pace, services
from tests.neighbours import base
from tests.waiting import until


@pytest.fixture(scope="session", autouse=True)
def database(django_test_environment: None, django_db_blocker: Any) -> Iterator[None]:
    """Let every test use the database, which goes with the run's own server."""
    with django_db_blocker.unblock():
        setup_databases(verbosity=0, interactive=False)
        os.environ[services.DATABASE_NAME] = str(connection.settings_dict["NAME"])
        yield


@contextmanager
def started(name: str, *command: str) -> Iterator[Callable[[], str]]:
    """Run a command of Celery's until the end; give what reads its output."""
    output = base.RUN / f"{name}.log"
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", *command],
        stdout=output.open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield lambda: output.read_text(errors="replace")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=pace.allowed(60))


@pytest.fixture(scope="session")
def run_worker(database: None) -> Callable[[str], Any]:
    """Start a worker of an app, and wait until it is ready."""

    @contextmanager
    def run(app: str) -> Iterator[Callable[[], str]]:
        options = ["-c", "2", "-E", "-l", "INFO", "--without-mingle", "--without-gossip"]
        with started("worker", "-A", app, "worker", *options) as log:
            until(lambda: " ready." in log(), 120, log)
            yield log

    return run


@pytest.fixture
def ended() -> Callable[..., Node]:
    """Wait until a node has a status."""

    def wait(node: Node, status: str = "complete") -> Node:
        def is_so() -> bool:
            node.refresh_from_db()
            return node.status == status

        until(is_so, 90, lambda: f"{node} {node.explain()} {node.error}")
        return node

    return wait

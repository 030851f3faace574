"""Workers and brokers for the tests in this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from kombu.exceptions import OperationalError

from backbeat_celery.models import Node
from tests.real.workers import FAST, Log, Worker
from tests.waiting import until


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.real)
            # The waits have deadlines of their own, which grow with the machine.
            item.add_marker(pytest.mark.timeout(3600))
            item.add_marker(pytest.mark.django_db(transaction=True))


@pytest.fixture(autouse=True)
def fast_settings(settings: Any) -> None:
    settings.BACKBEAT = FAST


@pytest.fixture(autouse=True)
def empty_queue() -> Iterator[None]:
    """No message of an earlier test is left, and none of this one stays behind.

    The queue is declared before any worker starts: two that create the embedded broker's
    tables at once end one another.
    """
    with current_app.connection_for_write() as connection:
        current_app.amqp.queues[current_app.conf.task_default_queue](
            connection.default_channel
        ).declare()
    yield
    try:
        with current_app.connection_for_write() as connection:
            connection.default_channel.queue_delete(current_app.conf.task_default_queue)
    except (OperationalError, NotImplementedError):
        pass


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "handlers.jsonl")


@pytest.fixture
def start_worker(log: Log) -> Iterator[Callable[..., Worker]]:
    """Start workers that are gone, with all their children, after the test."""
    workers: list[Worker] = []

    def start(**options: Any) -> Worker:
        workers.append(Worker(log.path, **options))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()


@pytest.fixture
def worker(start_worker: Callable[..., Worker]) -> Worker:
    return start_worker().wait_ready()


@pytest.fixture
def finished(start_worker: Callable[..., Worker]) -> Callable[..., Node]:
    """Wait until a node is complete; when it is not in time, show the tree."""

    def wait(node: Node, seconds: float = 120, status: str = "complete") -> Node:
        from backbeat_celery.inspection.tree import render

        def is_so() -> bool:
            node.refresh_from_db()
            return node.status == status

        until(is_so, seconds, lambda: render(node.workflow, limit=50))
        return node

    return wait

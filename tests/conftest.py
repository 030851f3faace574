"""Fixtures of all levels."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator
from typing import Any

import django
import pytest
from django.db import connection
from kombu.transport import memory

from backbeat_celery import signal
from backbeat_celery.models import Node
from backbeat_celery.testing import Simulation
from tests import faulty, partitions, workflows

# They have settings of their own: see tox.ini.
_MAIN = os.environ["DJANGO_SETTINGS_MODULE"] == "tests.settings"
collect_ignore = ["docs", "neighbours"] if _MAIN else []


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "exact: counts statements, messages or log lines")
    # Celery sends warnings to this logger. If the garbage collector closes a connection, of which
    # Python 3.13 warns, while pytest walks over all loggers, it must be there already.
    logging.getLogger("py.warnings")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On partitioned tables PostgreSQL reads empty partitions, which tests of plans reject."""
    if partitions.wanted():
        skip = pytest.mark.skip(reason="plans of partitioned tables")
        for item in items:
            if item.path.name in {"test_plans.py", "test_admin_volume.py"}:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """Partition the tables of a run that asks for it."""
    if partitions.wanted():
        with django_db_blocker.unblock():
            partitions.partition(connection)


@pytest.fixture(autouse=True)
def no_recent_workflows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the subjects that earlier tests have sent signals to, as a new process has."""
    from backbeat_celery.engine.statements import signals

    monkeypatch.setattr(signals, "_recent", signals.RecentWorkflows())


@pytest.fixture
def admins() -> list[Any]:
    """A value for the setting ADMINS, in which Django 5.2 asks for names and 6.0 for none."""
    address = "ada@example.com"
    return [("Ada", address)] if django.VERSION < (6, 0) else [address]


@pytest.fixture(autouse=True)
def no_messages() -> None:
    """Forget what earlier tests have sent: the broker in memory is the whole process's."""
    memory.Channel.queues.clear()


@pytest.fixture(autouse=True)
def faults(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the engine's operations fail now and then, in a run that asks for it."""
    if request.node.get_closest_marker("exact"):
        yield
        return
    with faulty.inflicted(request.node.nodeid):
        yield


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the counts of a process of pytest-xdist to the one that reports."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["faults"] = dict(faulty.counts)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    faulty.counts.update(getattr(node, "workeroutput", {}).get("faults", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in faulty.summary():
        terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let xdist carry logs with half a character in them, which some tests are about."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


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

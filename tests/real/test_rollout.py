"""The first deployment and the way back: workers that have a task, and not this package."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import current_app

from backbeat_celery import signal
from backbeat_celery.models import Node
from tests.real import handlers
from tests.real.other_worker import OtherWorker
from tests.waiting import until

REFUSED = b"Received invalid task message: Refusing to deserialize untrusted content"
SETTINGS = {"LEASE": 1, "SWEEP_INTERVAL": 0.5}


def test_nodes_run_once_on_a_worker_that_has_the_package(
    start_worker: Callable[..., Any], log: Any, tmp_path: Path, settings: Any
):
    settings.BACKBEAT = SETTINGS
    before = OtherWorker(tmp_path, queue=current_app.conf.task_default_queue)
    try:
        before.wait_ready()
        labels = [f"order {n}" for n in range(6)]
        nodes = [signal(handlers.step.s(label), subject=label) for label in labels]
        until(lambda: before.output().count(REFUSED) == len(nodes), 60, before.tail)
        assert not before.lines()
        start_worker(settings=SETTINGS).wait_ready()
        finished = Node.objects.filter(pk__in=[node.pk for node in nodes], status="complete")
        until(lambda: finished.exists(), 60, before.tail)
        assert before.process.poll() is None
    finally:
        before.kill()  # the deployment is over
    until(lambda: finished.count() == len(nodes), 60, before.tail)
    assert sorted(log.labels()) == labels
    assert not before.lines()
    assert {node.attempt for node in finished} == {1}


TESTS = """
import pytest
from celery import shared_task
from backbeat_celery import signal
from tests.waiting import until

paid = []

@shared_task
def pay(amount=100):
    paid.append(amount)
    return amount

@shared_task(bind=True)
def relay(self):
    vars_of = {k: v for k, v in vars(self.request).items() if k.startswith("backbeat")}
    pay.apply_async((8,), headers=self.request.headers)
    pay.apply_async((9,), headers={k: v for k, v in vars_of.items() if k != "backbeat_run"})
    return self.request.headers

@pytest.fixture(scope="session")
def celery_config():
    return {"broker_url": "memory://"}

@pytest.mark.django_db(transaction=True)
def test_the_worker_of_celery(celery_app, celery_worker):
    celery_worker.reload()
    node = signal(pay.s(5), subject="order")
    until(lambda: node.__class__.objects.get(pk=node.pk).status == "complete", 30)
    assert node.__class__.objects.get(pk=node.pk).result == 5
    assert pay.delay(7).get(timeout=30) == 7
    # A plain task with a node's headers is a plain task.
    signal(relay.s().set(headers={"tenant": "acme"}), subject="relay")
    until(lambda: {8, 9} <= set(paid), 30)
"""


def test_celerys_own_test_worker_runs_nodes(tmp_path: Path):
    path = tmp_path / "test_theirs.py"
    path.write_text(TESTS)
    options = ["-q", "-p", "no:cacheprovider", "-p", "celery.contrib.pytest", "-p", "no:xdist"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--rootdir", str(tmp_path), str(path)],
        cwd=Path(__file__).parents[2],
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("BACKBEAT_TEST_")},
            "DJANGO_SETTINGS_MODULE": "tests.settings",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]

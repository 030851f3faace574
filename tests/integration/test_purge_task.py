"""`backbeat.purge`: the purge, as a task for a schedule."""

from __future__ import annotations

import logging

import pytest

from backbeat_celery import signal, tasks
from backbeat_celery.models import Workflow
from tests import workflows


@pytest.fixture
def calls(monkeypatch):
    """How the purge was called."""
    noted = []
    monkeypatch.setattr(
        tasks,
        "purge_database",
        lambda using, **options: noted.append((using, options)) or "2 nodes",
    )
    return noted


def test_every_database_with_nodes_is_purged(calls, settings):
    settings.BACKBEAT = {"DATABASES": ["default", "other"]}
    tasks.purge()
    options = {"days": None, "batch": 500, "dry_run": False}
    assert calls == [("default", options), ("other", options)]


def test_what_the_schedule_says_is_handed_on(calls, caplog):
    with caplog.at_level(logging.INFO):
        tasks.purge(days=7, batch=10, dry_run=True, using="other")
    assert calls == [("other", {"days": 7, "batch": 10, "dry_run": True})]
    assert "A purge of other would delete: 2 nodes" in caplog.text


def test_it_deletes_what_is_old(sim):
    pytest.importorskip("backbeat_celery.retention.purge")
    node = signal(workflows.done.s(), subject="camera")
    sim.run()
    node.workflow.close()
    sim.run()
    sim.advance(days=100)
    tasks.purge(days=101)
    assert Workflow.objects.count() == 1
    tasks.purge()
    assert Workflow.objects.count() == 0

"""A database whose times are kept in another zone than UTC: nothing is early, nothing late."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.utils import timezone

from backbeat_celery import signal
from backbeat_celery.checks import check_databases
from backbeat_celery.engine.repair.sweep import Sweep
from backbeat_celery.models import Node
from tests import workflows
from tests.races.worker import succeed, take, taken

HOUR = timedelta(hours=1)


def _forget():
    for name in ("timezone", "timezone_name"):
        vars(connections["default"]).pop(name, None)
    if connection.connection is not None and connection.vendor == "postgresql":
        connection.ensure_timezone()


@pytest.fixture(params=["America/New_York", "Asia/Tokyo"])
def zone(request, db, monkeypatch):
    """A project that has chosen a time zone for its database."""
    monkeypatch.setitem(connection.settings_dict, "TIME_ZONE", request.param)
    _forget()
    yield request.param
    monkeypatch.undo()
    _forget()


def _signal(**options):
    return signal(workflows.done.s(), subject="camera", mode="non_blocking", **options)


def test_what_is_due_in_an_hour_is_not_due(zone):
    nodes = [_signal(delay=3600), _signal(fires_at=timezone.now() + HOUR)]
    assert [take(node) for node in nodes] == [None, None]


def test_what_is_due_runs(zone):
    node = _signal(fires_at=timezone.now() - HOUR)
    succeed(taken(node))
    node.refresh_from_db()
    assert node.status == "complete"


def test_an_attempt_that_runs_is_neither_lost_nor_timed_out(zone):
    node = _signal()
    before = timezone.now()
    taken(node)
    Sweep("default").run()
    node.refresh_from_db()
    assert node.status == "running"
    assert before < node.lease_expires_at < before + HOUR


def test_an_attempt_whose_lease_is_over_is_lost(zone):
    node = _signal()
    taken(node)
    Node.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    Sweep("default").run()
    node.refresh_from_db()
    assert node.status == "queued"


def test_the_databases_time_is_the_time(zone):
    _signal()
    before = timezone.now() - timedelta(seconds=1)  # SQLite's clock has milliseconds
    now = Node.objects.with_time().first().db_now
    assert before < now < timezone.now() + timedelta(seconds=1)


def test_the_doctor_finds_nothing_wrong(zone, capsys):
    _signal(delay=3600)
    call_command("backbeat_doctor")
    assert "due for a message" not in capsys.readouterr().out


def test_the_check_warns_of_the_hour_that_comes_twice(zone):
    found = {message.id for message in check_databases(["default"])}
    keeps_moments = connection.vendor == "postgresql"
    assert ("backbeat_celery.W020" in found) is not keeps_moments


def test_utc_is_no_reason_for_a_warning(db):
    assert "backbeat_celery.W020" not in {message.id for message in check_databases(["default"])}

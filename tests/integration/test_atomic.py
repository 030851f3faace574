"""Atomic nodes: what the handler writes is committed with its outcome, once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, OperationalError, connection

from backbeat_celery import current_node, signal
from backbeat_celery.engine.repair.sweep import Sweep
from backbeat_celery.models import Node
from tests import workflows


def names():
    return sorted(Group.objects.values_list("name", flat=True))


@pytest.fixture
def send(sim):
    def signal_and_run(signature=None):
        node = signal(signature or workflows.scripted_atomic.s(), subject="camera")
        sim.run()
        node.refresh_from_db()
        return node

    return signal_and_run


def write(task):
    """Write a row that says which attempt wrote it."""
    Group.objects.create(name=f"attempt {current_node().attempt}")


def test_the_write_is_committed_with_the_outcome(send):
    assert send(workflows.atomic_effect.s("g")).status == "complete"
    assert names() == ["g-1"]


def test_the_write_of_a_failed_attempt_is_gone_and_its_failure_stays(sim, send):
    node = send(workflows.atomic_effect.s("g", fail_until=2))
    assert (node.status, node.retries, names()) == ("retrying", 1, [])
    sim.advance(minutes=1)
    node.refresh_from_db()
    assert (node.status, names()) == ("complete", ["g-3"])
    assert [a.outcome for a in node.attempts] == ["failed", "failed", "succeeded"]


@pytest.mark.parametrize("point", ["before_handler", "in_handler", "after_handler"])
def test_a_worker_that_dies_before_the_record_has_written_nothing(sim, send, script, point):
    script(write)
    sim.kill_next(point)
    send()
    assert names() == []
    sim.advance(minutes=1)
    assert names() == ["attempt 2"]


def test_a_worker_that_dies_after_the_record_has_written_once(sim, send, script):
    script(write)
    sim.kill_next("after_record")
    assert send().status == "complete"
    sim.advance(minutes=5)
    assert names() == ["attempt 1"]


def test_a_durable_retry_rolls_the_write_back(sim, send, script):
    def work(task):
        write(task)
        if task.request.retries == 0:
            task.retry(countdown=5)

    script(work)
    assert (send().status, names()) == ("retrying", [])
    sim.advance(minutes=1)
    assert names() == ["attempt 2"]


def test_a_retry_without_throw_rolls_the_write_back(sim, send, script):
    def work(task):
        write(task)
        if task.request.retries == 0:
            task.retry(countdown=5, throw=False)

    script(work)
    send()
    sim.advance(minutes=1)
    assert names() == ["attempt 2"]


def test_a_result_that_cannot_be_stored_keeps_the_write(send, script):
    script(lambda task: write(task) or object())
    assert (send().status, names()) == ("complete", ["attempt 1"])


def test_a_signal_is_part_of_the_transaction(sim, send, script):
    def work(task):
        signal(workflows.done.s(), subject="lens")
        if task.request.retries == 0:
            raise RuntimeError

    script(work)
    send()
    assert not Node.objects.filter(task=workflows.done.name).exists()
    sim.advance(minutes=1)
    assert Node.objects.get(task=workflows.done.name).status == "complete"


def test_children_are_committed_with_the_write(send, script):
    def work(task):
        write(task)
        current_node().spawn(workflows.done.s())

    script(work)
    node = send()
    assert (node.status, node.children.count(), names()) == ("complete", 1, ["attempt 1"])


def test_an_error_of_the_database_is_a_failure(send, script):
    def work(task):
        Group.objects.create(name="twice")
        Group.objects.create(name="twice")

    script(work)
    node = send()
    assert (node.status, node.retries, names()) == ("retrying", 1, [])
    assert IntegrityError.__name__ in node.error


def test_a_conflict_of_transactions_is_a_lost_attempt(sim, send, script):
    def work(task):
        write(task)
        if current_node().attempt == 1:
            raise OperationalError("database is locked")

    script(work)
    node = send()
    assert (node.status, node.retries, node.attempt) == ("complete", 0, 2)
    assert names() == ["attempt 2"]
    assert [a.outcome for a in node.attempts] == ["lost", "succeeded"]


@pytest.mark.parametrize(("is_usable", "outcome"), [(False, "lost"), (True, "failed")])
def test_a_lost_connection_is_a_lost_attempt(sim, send, script, monkeypatch, is_usable, outcome):
    """The server was restarted, say; an error on a sound connection is the handler's own."""

    def work(task):
        write(task)
        if current_node().attempt == 1:
            monkeypatch.setattr(connection, "is_usable", lambda: is_usable)
            raise OperationalError("terminating connection due to administrator command")

    script(work)
    node = send()
    sim.advance(minutes=1)
    node.refresh_from_db()
    assert node.status == "complete"
    assert names() == ["attempt 2"]
    assert [a.outcome for a in node.attempts] == [outcome, "succeeded"]
    assert node.retries == (outcome == "failed")


@pytest.mark.parametrize("column", ["lease_expires_at", "times_out_at"])
def test_the_write_of_a_fenced_attempt_is_rolled_back(sim, send, script, column):
    """The sweeper ends the attempt while its handler still runs."""

    def work(task):
        write(task)
        if current_node().attempt == 1:
            past = sim.now - timedelta(seconds=1)
            Node.objects.filter(pk=current_node().id).update(**{column: past})
            Sweep("default").run()

    script(work)
    send()
    assert "attempt 1" not in names()


def test_the_claim_is_committed_before_the_handler(sim, send, script):
    seen = []
    script(lambda task: seen.append(Node.objects.get(task=task.name).status))
    send()
    assert seen == ["running"]


def test_without_atomic_the_write_of_a_failed_attempt_stays(sim, send, script):
    script(lambda task: write(task) or (task.request.retries or 1 / 0))
    send(workflows.scripted.s())
    sim.advance(minutes=1)
    assert names() == ["attempt 1", "attempt 2"]

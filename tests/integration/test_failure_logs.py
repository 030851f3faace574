"""The final failure of a node is one line at ERROR, whoever ends it, with what names the node."""

from __future__ import annotations

import logging

import pytest
from celery import current_app
from django.db import transaction

from backbeat_celery import current_node, signal
from backbeat_celery.engine.claim import NodeMessage
from backbeat_celery.engine.repair import worker_events
from backbeat_celery.models import Node
from tests import workflows

pytestmark = pytest.mark.exact


@pytest.fixture
def errors(caplog):
    """Records at ERROR; Celery's own are of its loggers."""
    caplog.set_level(logging.DEBUG)
    return lambda: [record for record in caplog.records if record.levelno >= logging.ERROR]


def by_handler(sim, script):
    script(lambda task: 1 / 0)
    return signal(workflows.scripted.s(), subject="camera")


def by_atomic_handler(sim, script):
    script(lambda task: 1 / 0)
    return signal(workflows.scripted_atomic.s(), subject="camera")


def by_rejection(sim, script):
    return signal(workflows.rejecting.s(False), subject="camera")


def by_plain_task(sim, script):
    script(lambda task: 1 / 0)
    return signal(workflows.scripted_plain.s(), subject="camera")


def by_memory_error(sim, script):
    def work(task):
        raise MemoryError

    script(work)
    return signal(workflows.scripted.s(), subject="camera")


def by_timeout(sim, script):
    script(lambda task: None)
    return signal(workflows.scripted_awaiting.s(), subject="camera")


def by_losses(sim, script):
    script(lambda task: sim.kill_next("in_handler"))
    return signal(workflows.scripted.s(), subject="camera")


def by_giving_back(sim, script):
    return signal(workflows.rejecting.s(True), subject="camera")


def by_report(sim, script):
    script(lambda task: None)
    node = signal(workflows.scripted_awaiting.s(), subject="camera")
    sim.run()
    with transaction.atomic():
        Node.objects.get(pk=node.pk).fail(ValueError("declined"), by="the bank")
    return node


def by_bundle(sim, script):
    def work(task, number):
        if number == 2:
            raise RuntimeError("number 2")

    script(work, "bundled")
    children = [workflows.bundled.s(n) for n in range(4)]
    script(lambda task: current_node().spawn_many(children, mode="non_blocking") and None)
    signal(workflows.scripted.s(), subject="camera")
    sim.advance(hours=100)
    return Node.objects.get(status="failed")


def by_unknown_task(sim, script):
    node = signal(workflows.done.s(), subject="camera")
    sim.lose_messages()
    worker_events.unknown_task(NodeMessage(node.pk, node.task, 1, "default", node.pk))
    Node.objects.filter(pk=node.pk).update(times_out_at=sim.now)
    sim.sweep()
    return node


WAYS = [
    *(by_handler, by_atomic_handler, by_rejection, by_plain_task, by_memory_error, by_timeout),
    *(by_losses, by_giving_back, by_report, by_bundle, by_unknown_task),
]


@pytest.mark.parametrize("way", WAYS)
def test_it_is_logged_once(sim, script, errors, way):
    node = way(sim, script)
    sim.advance(hours=100)
    node.refresh_from_db()
    assert node.status == "failed"
    (record,) = errors()
    assert record.name.startswith("backbeat_celery.")
    assert (record.node_id, record.workflow_id) == (node.pk, node.workflow_id)
    assert (record.attempt, record.task) == (node.attempt, node.task)
    message = record.getMessage()
    assert str(node.pk) in message
    assert node.history[-1].reason.split(";")[0] in message
    assert (node.error or "") in message


def test_it_has_the_handlers_traceback(sim, script, errors):
    by_handler(sim, script)
    sim.advance(hours=1)
    (record,) = errors()
    assert record.exc_info[0] is ZeroDivisionError


def test_celerys_line_stays_for_its_id(sim, script, caplog):
    caplog.set_level(logging.DEBUG)
    node = by_handler(sim, script)
    sim.advance(hours=1)
    node.refresh_from_db()
    lines = [r for r in caplog.records if r.name == "celery.app.trace"]
    (line,) = [r for r in lines if "raised unexpected" in r.getMessage()]
    assert (line.levelname, line.data["id"]) == ("INFO", node.attempts[-1].task_id)


def test_a_task_that_is_no_node_is_logged_by_celery_as_ever(sim, script, errors):
    script(lambda task: 1 / 0)
    workflows.scripted_plain.apply()
    (record,) = errors()
    assert record.name == "celery.app.trace"


def test_an_expected_error_has_no_traceback(sim, script, errors, monkeypatch):
    task = current_app.tasks[workflows.scripted.name]
    monkeypatch.setattr(task, "throws", (ZeroDivisionError,))
    by_handler(sim, script)
    sim.advance(hours=1)
    (record,) = errors()
    assert not record.exc_info


def test_what_is_rolled_back_is_not_logged(sim, script, errors):
    script(lambda task: None)
    node = signal(workflows.scripted_awaiting.s(), subject="camera")
    sim.run()
    with transaction.atomic():
        Node.objects.get(pk=node.pk).fail(ValueError("declined"))
        assert not errors()
        transaction.set_rollback(True)
    sim._after_commit.clear()
    sim.run()
    assert not errors()


def test_hidden_values_are_hidden_in_it(sim, script, errors, settings, caplog):
    settings.BACKBEAT = {"REDACT": ["name"]}

    def work(task):
        raise ValueError("cannot use 4111-SECRET")

    script(work, "4111-SECRET")
    signal(workflows.scripted.s(name="4111-SECRET"), subject="camera")
    sim.advance(hours=1)
    (record,) = errors()
    assert "cannot use ***" in record.getMessage()
    assert "4111-SECRET" not in caplog.text

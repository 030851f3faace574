"""Django signals about what has ended: after the commit, at most once, and harmless."""

from __future__ import annotations

import logging
from contextlib import contextmanager

import pytest
from django.db import OperationalError, connection, transaction
from django.test import TestCase

from backbeat_celery import current_node, signal
from backbeat_celery.models import Node, Workflow
from backbeat_celery.signals import node_completed, node_failed, workflow_completed
from backbeat_celery.testing import Simulation
from tests import workflows
from tests.integration.test_statements import Statements


@contextmanager
def connected(django_signal, receiver, sender=None):
    django_signal.connect(receiver, sender=sender, weak=False)
    try:
        yield
    finally:
        django_signal.disconnect(receiver, sender=sender)


@pytest.fixture
def told():
    """Everything that receivers were told, in order."""
    heard = []

    def receiver_of(word):
        def receive(sender, **kwargs):
            heard.append((word, sender, kwargs.get("node") or kwargs.get("workflow")))

        return receive

    with (
        connected(node_completed, receiver_of("completed")),
        connected(node_failed, receiver_of("failed")),
        connected(workflow_completed, receiver_of("workflow")),
    ):
        yield heard


def names(told, word):
    return [str(row.name) for kind, _, row in told if kind == word]


def test_each_node_of_a_tree_is_told_once_children_first(sim, told, run_tree):
    node = run_tree({"mode": "non_blocking"}, {})
    rows = [row for _, _, row in told]
    assert {sender for _, sender, _ in told} == {Node}
    assert sorted(row.pk for row in rows) == sorted(
        [node.pk, *[c.pk for c in node.children.all()]]
    )
    assert rows[-1] == node
    assert (rows[-1].status, rows[-1].outcome, rows[-1].workflow.subject) == (
        "complete",
        "succeeded",
        "camera",
    )


def test_it_comes_after_what_follows_was_published(sim, told, run_tree):
    statuses_then = []

    def look(sender, node, **_):
        if node.parent_id != node.workflow_id:
            statuses_then.append(list(node.parent.children.values_list("status", flat=True)))

    with connected(node_completed, look):
        run_tree({}, {})
    assert statuses_then[0] == ["complete", "queued"]


def test_flags_are_told_also_when_a_thousand_are_done_at_once(sim, told, script):
    def work(task):
        for n in range(1000):
            current_node().flag(f"flag {n}")

    script(work)
    signal(workflows.scripted.s(), subject="camera")
    sim.run()
    assert names(told, "completed") == [
        *[f"flag {n}" for n in range(1000)],
        "tests.workflows.scripted",
    ]


def test_a_flag_with_a_time_is_told_when_it_is_due(sim, told, script):
    script(lambda task: str(current_node().flag("later", delay=100)))
    signal(workflows.scripted.s(), subject="camera")
    sim.run()
    assert told == []
    sim.advance(minutes=2)
    assert names(told, "completed") == ["later", "tests.workflows.scripted"]


def test_a_node_is_told_failed_once_when_its_retries_are_exhausted(sim, told):
    node = signal(workflows.flaky.s(99), subject="camera")
    sim.run()
    assert told == []
    sim.advance(hours=1)
    assert [(word, row.pk, row.status) for word, _, row in told] == [("failed", node.pk, "failed")]


def test_a_node_that_was_lost_too_often_is_told_failed(sim, told, settings):
    settings.BACKBEAT = {"MAX_LOST_ATTEMPTS": 1}
    node = signal(workflows.done.s(), subject="camera")
    sim.kill_next("in_handler")
    sim.advance(minutes=2)
    node.refresh_from_db()
    assert (node.status, names(told, "failed")) == ("failed", [node.name])


def test_a_node_whose_task_nobody_knows_is_told_failed(sim, told):
    node = signal(workflows.done.s(), subject="camera")
    Node.objects.filter(pk=node.pk).update(times_out_at=sim.now)
    sim.lose_messages()
    sim.sweep()
    assert names(told, "failed") == [node.name]


def test_a_closed_workflow_is_told_when_its_root_is_complete(sim, told):
    node = signal(workflows.done.s(), subject="camera")
    sim.run()
    assert names(told, "workflow") == []
    Workflow.objects.filter(pk=node.workflow_id).update(closed_at=sim.now)
    sim.sweep()
    [(word, sender, workflow)] = [entry for entry in told if entry[0] == "workflow"]
    assert (sender, workflow.pk, workflow.unfinished) == (Workflow, node.workflow_id, None)
    assert len(names(told, "completed")) == 1  # the root is no node of anybody's


def test_a_doubled_message_tells_once(sim, told):
    signal(workflows.done.s(), subject="camera")
    sim.duplicate_messages()
    sim.run()
    sim.advance(minutes=5)
    assert len(told) == 1


def test_a_worker_that_dies_after_the_record_tells_nobody(sim, told):
    node = signal(workflows.done.s(), subject="camera")
    sim.kill_next("after_record")
    sim.advance(minutes=5)
    node.refresh_from_db()
    assert (node.status, told) == ("complete", [])


def test_a_receiver_that_raises_stops_neither_the_engine_nor_the_others(
    sim, told, run_tree, caplog
):
    def broken(sender, **_):
        raise RuntimeError("receiver trouble")

    with connected(node_completed, broken), caplog.at_level(logging.ERROR):
        node = run_tree({}, {})
    assert node.status == "complete"
    assert len(names(told, "completed")) == 3
    assert "receiver trouble" in caplog.text


def test_a_database_that_cannot_be_read_is_logged(sim, told, monkeypatch, caplog):
    def gone(*args, **kwargs):
        raise OperationalError("gone")

    signal(workflows.done.s(), subject="camera")
    monkeypatch.setattr("backbeat_celery.models.querysets.NodeQuerySet.in_bulk", gone)
    with caplog.at_level(logging.ERROR):
        sim.run()
    assert (told, "Cannot read the ended nodes" in caplog.text) == ([], True)


def test_nobody_listens_nothing_is_read(sim):
    def cost():
        signal(workflows.done.s(), subject="camera")
        with Statements() as statements:
            sim.step()
        return len(statements.texts)

    signal(workflows.done.s(), subject="camera")
    sim.step()
    alone = cost()
    with connected(node_completed, lambda **_: None):
        assert cost() == alone + 1
    with connected(node_completed, lambda **_: None, sender=Workflow):
        assert cost() == alone


def test_a_receiver_may_signal(sim, run_tree):
    def next_one(sender, node, **_):
        if node.parent_id == node.workflow_id and node.workflow.subject == "camera":
            signal(workflows.done.s(), subject=f"after {node.workflow.subject}", key=str(node.pk))

    with connected(node_completed, next_one):
        run_tree({})
    sim.run()
    assert Node.objects.filter(workflow__subject="after camera", status="complete").count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("task", [workflows.done, workflows.scripted_atomic])
def test_it_is_told_after_the_commit(script, task):
    seen = []
    script(lambda task: None)

    def receive(sender, node, **_):
        seen.append(connection.in_atomic_block)

    with Simulation() as sim, connected(node_completed, receive):
        with transaction.atomic():
            signal(task.s(), subject="camera")
        sim.run()
    assert seen == [False]


class TestWithDjangosOwnRunner(TestCase):
    def test_a_simulation_in_a_test_case_tells_its_receivers(self):
        heard = []
        with (
            Simulation() as sim,
            connected(node_completed, lambda node, **_: heard.append(node.pk)),
        ):
            node = signal(workflows.done.s(), subject="camera")
            sim.run()
        assert heard == [node.pk]


@pytest.mark.parametrize(("verb", "outcome"), [("resolve", "resolved"), ("shutdown", "shutdown")])
def test_a_failed_node_that_an_operator_settles_is_told_completed(sim, told, verb, outcome):
    node = signal(workflows.fatal.s(), subject="camera")
    sim.run()
    node.refresh_from_db()
    getattr(node, verb)(by="ada")
    sim.run()
    [(word, _, failed), (done, _, settled)] = told
    assert (word, failed.pk, done, settled.pk) == ("failed", node.pk, "completed", node.pk)
    assert settled.outcome == outcome


def test_a_canceled_node_is_neither_completed_nor_failed(sim, told):
    node = signal(workflows.fatal.s(), subject="camera")
    sim.run()
    node.refresh_from_db()
    node.cancel()
    sim.run()
    assert names(told, "completed") == []


def test_close_tells_of_the_workflow(sim, told):
    node = signal(workflows.done.s(), subject="camera")
    sim.run()
    node.workflow.close()
    sim.run()
    assert [word for word, _, _ in told] == ["completed", "workflow"]

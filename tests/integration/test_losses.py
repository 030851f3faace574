"""A long queue is left alone; what is missing on it is sent again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery import current_app

from backbeat_celery import node_task, signal
from backbeat_celery.conf import settings
from backbeat_celery.engine.after_commit import options_of
from backbeat_celery.engine.delivery import broker_probe, make_due, queue_depth, routing
from backbeat_celery.engine.publish_times import LONGEST_INTERVAL
from backbeat_celery.engine.repair.sweep import Sweep
from backbeat_celery.models import Node
from tests import workflows

NODES = 50
DEFAULT = current_app.conf.task_default_queue
pytestmark = pytest.mark.exact


@pytest.fixture
def backlog(sim, monkeypatch):
    """Nodes with a message each, and no worker that takes one until the test ends."""
    monkeypatch.setattr(sim, "run", lambda: sim._commit())
    nodes = [signal(workflows.done.s(n), subject=f"s{n}") for n in range(NODES)]
    assert sim.in_flight == NODES
    return nodes


def lose(sim, count):
    """Lose the messages of the nodes that came first."""
    del sim._in_flight[:count]


def test_a_long_queue_is_not_made_longer(sim, backlog):
    sim.advance(minutes=9)
    assert sim.in_flight == NODES


def test_as_many_are_sent_again_as_are_missing(sim, backlog):
    sim.advance(minutes=2)
    lose(sim, 20)
    sim.advance(seconds=settings.sweep_interval)
    assert sim.in_flight == NODES
    again = Node.objects.filter(publish_count=1).values_list("pk", flat=True)
    assert set(again) == {node.pk for node in backlog[:20]}


def test_a_purge_is_made_good_at_the_next_sweep(sim, backlog):
    sim.advance(minutes=2)
    assert sim.lose_messages() == NODES
    sim.advance(seconds=settings.sweep_interval)
    assert sim.in_flight == NODES


def test_what_is_on_its_way_is_not_missing(sim, backlog):
    sim.advance(minutes=2)
    for number in range(20):
        signal(workflows.done.s(number), subject=f"new {number}")
    sim._commit()
    del sim._in_flight[NODES:]  # the publisher is not done yet
    sim.sweep()
    assert sim.in_flight == NODES
    sim.advance(seconds=settings.lease + settings.sweep_interval)
    assert sim.in_flight == NODES + 20


def test_two_sweepers_send_no_more_than_what_is_missing(sim, backlog, monkeypatch):
    """The other one sends while this one is busy with its first batch."""
    monkeypatch.setattr("backbeat_celery.engine.repair.sweep.BATCH", 7)
    sim.advance(minutes=2)
    sim.lose_messages()
    send, others = sim.send, [Sweep("default")]

    def interrupted(publications, using):
        send(publications, using)
        if others:
            others.pop().run()

    monkeypatch.setattr(sim, "send", interrupted)
    sim.sweep()
    assert sim.in_flight == NODES


def test_a_depth_postpones_and_never_prevents(sim, backlog):
    sim.lose_messages()
    sim.depth = lambda queue: 10_000  # somebody else's
    sim.advance(seconds=LONGEST_INTERVAL)
    assert sim.in_flight == 0
    sim.advance(seconds=settings.lease + settings.sweep_interval)
    assert sim.in_flight == NODES


def test_a_broker_that_cannot_tell_is_not_waited_for(sim, backlog):
    sim.depth = lambda queue: None
    sim.advance(seconds=settings.lease + settings.sweep_interval)
    assert sim.in_flight == 2 * NODES


def test_what_the_broker_did_not_take_is_sent_whatever_the_depth(sim, backlog):
    sim.advance(minutes=2)
    make_due.make_due([backlog[7].pk], "default")
    sim.advance(seconds=settings.sweep_interval)
    assert sim.in_flight == NODES + 1
    assert Node.objects.get(publish_count=1).pk == backlog[7].pk


def test_a_timer_is_sent_whatever_the_depth(sim, backlog):
    signal(workflows.done.s(), subject="later", delay=600)
    sim.advance(seconds=600)
    assert sim.in_flight == NODES + 1


def test_flags_and_pauses_do_not_wait_for_the_queue(sim, backlog, monkeypatch):
    backlog[0].workflow.pause()
    flag = backlog[1]
    flag.add_child(workflows.done.s())
    Node.objects.filter(pk=flag.pk).update(task="")
    sim.advance(seconds=settings.lease + settings.sweep_interval)
    backlog[0].refresh_from_db()
    flag.refresh_from_db()
    assert backlog[0].status == "paused"
    assert flag.status != "queued"


def test_each_queue_is_looked_at_by_itself(sim, backlog):
    asked = []

    def depth(queue):
        asked.append(queue)
        return {DEFAULT: NODES}.get(queue, 0)

    sim.depth = depth
    lone = signal(workflows.done.s().set(queue="lone"), subject="lone")
    sim.advance(seconds=settings.lease + settings.sweep_interval)
    assert set(asked) == {DEFAULT, "lone"}
    assert Node.objects.get(publish_count=1).pk == lone.pk


@node_task(name="tests.losses.printing", time_limit=30)
def printing():
    """A handler whose author has named its queue."""


printing.queue = "paper"  # as an option Celery 5.7 warns of it


@pytest.mark.parametrize("is_known", [True, False])
def test_a_queue_that_a_task_names_is_looked_at(sim, is_known, monkeypatch):
    signal(printing.s(), subject="camera")
    signal(workflows.done.s(), subject="lens")
    if not is_known:
        monkeypatch.delitem(current_app.tasks, printing.name)
    assert queue_depth.due_by_queue(Node.objects.claimable()) == {"paper": 1, DEFAULT: 1}


def test_who_does_not_know_a_task_sends_it_where_its_author_says(sim, monkeypatch):
    node = signal(printing.s(), subject="camera")
    lone = signal(printing.s().set(queue="lone"), subject="lens")
    assert [options_of(node), options_of(lone)] == [{}, {"queue": "lone"}]
    monkeypatch.delitem(current_app.tasks, printing.name)
    assert options_of(node) == {"queue": "paper", "time_limit": 30}
    assert options_of(lone) == {"queue": "lone", "time_limit": 30}


def test_nobody_is_asked_while_nothing_waits_long(sim, backlog):
    sim.depth = lambda queue: pytest.fail("asked")
    sim.advance(seconds=settings.lease - settings.sweep_interval)


def test_more_than_a_batch_is_looked_through(sim, backlog, monkeypatch):
    monkeypatch.setattr("backbeat_celery.engine.repair.sweep.BATCH", 7)
    sim.depth = lambda queue: {DEFAULT: NODES}.get(queue, 0)
    lone = [signal(workflows.done.s(n).set(queue="lone"), subject=f"l{n}") for n in range(9)]
    sim.advance(seconds=settings.lease + settings.sweep_interval)
    again = Node.objects.filter(publish_count=1).values_list("pk", flat=True)
    assert set(again) == {node.pk for node in lone}


def test_a_router_that_fails_leaves_the_queue_unknown(sim, backlog, monkeypatch):
    monkeypatch.setattr(routing, "queue_of", lambda task, options: 1 / 0)
    sim.advance(seconds=settings.lease + settings.sweep_interval)
    assert sim.in_flight == 2 * NODES


def test_what_waits_long_is_explained(sim, backlog):
    sim._now += timedelta(minutes=1)
    assert "no worker has taken its message yet" in Node.objects.get(pk=backlog[0].pk).explain()


@pytest.mark.parametrize("url", ["sqla+sqlite:///:memory:", "redis://127.0.0.1:1/0"])
def test_a_depth_that_is_not_to_be_had_is_none(monkeypatch, url):
    monkeypatch.setattr(current_app.conf, "broker_url", url)
    monkeypatch.setattr(current_app.conf, "broker_read_url", url)
    assert broker_probe.BrokerProbe().count_messages(DEFAULT) is None

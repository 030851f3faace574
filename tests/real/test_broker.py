"""Brokers that are away, silent or picky: nothing of it may hold up or lose a node."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest
from celery import current_app
from kombu import Queue

from backbeat_celery import signal, signal_many
from backbeat_celery.engine.delivery import broker_probe, outbox
from backbeat_celery.models import Node
from tests import services
from tests.real import handlers


@pytest.fixture
def silent():
    """Somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def connections_to(server: socket.socket) -> int:
    """Count who has connected and was not accepted yet."""
    server.setblocking(False)
    count = 0
    with suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            count += 1
    return count


@pytest.fixture(autouse=True)
def fresh_outbox(monkeypatch):
    monkeypatch.setattr(outbox, "_outbox", outbox.BrokerOutbox())


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_silent_broker_is_tried_once_for_many_signals(silent, monkeypatch, scheme):
    pytest.importorskip("redis")
    address = f"127.0.0.1:{silent.getsockname()[1]}"
    monkeypatch.setattr(current_app.conf, "broker_url", f"{scheme}://{address}/")
    monkeypatch.setattr(outbox, "COOLDOWN", 3600)
    nodes = [signal(handlers.step.s("x"), subject=f"s{n}") for n in range(5)]
    assert Node.objects.filter(pk__in=[n.pk for n in nodes], status="queued").count() == 5
    # A connection that broke is made once more, which is all that five signals have cost.
    assert 1 <= connections_to(silent) <= 2


def test_one_message_that_cannot_be_sent_spares_the_others(worker, log, finished):
    current_app.amqp.queues.create_missing = False
    try:
        bad, good = signal_many(
            [
                (handlers.step.s("bad").set(queue="nobody-has-it"), {"subject": "a"}),
                (handlers.step.s("good"), {"subject": "b"}),
            ]
        )
        finished(good, 30)
    finally:
        current_app.amqp.queues.create_missing = True
    assert Node.objects.get(pk=bad.pk).status == "queued"


@pytest.mark.skipif("services.broker_kind() == 'embedded'", reason="it does not tell")
def test_the_depth_of_a_queue_is_asked_for():
    name = f"depth-{services.run_id()}"
    assert broker_probe.broker_probe.count_messages(name) == 0
    with current_app.connection_for_write() as connection:
        queue = Queue(name, routing_key=name)(connection.default_channel)
        queue.declare()
        for _ in range(3):
            connection.Producer().publish({}, routing_key=name)
        assert broker_probe.broker_probe.count_messages(name) == 3
        queue.purge()
        queue.delete()
    assert broker_probe.broker_probe.count_messages(name) == 0

"""Brokers that are away, silent or picky: nothing of it may hold up or lose a node."""

from __future__ import annotations

import socket
import time

import pytest
from celery import current_app
from kombu import Queue

from backbeat_celery import broker, signal, signal_many
from backbeat_celery.engine import publish
from backbeat_celery.models import Node
from tests import services
from tests.real import handlers

PATIENCE = 10
"""Seconds: far less than what the clients wait by themselves, far more than the second meant."""


@pytest.fixture
def silent_address():
    """Somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(autouse=True)
def fresh_outbox(monkeypatch):
    monkeypatch.setattr(publish, "_outbox", publish.BrokerOutbox())


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_silent_broker_holds_up_no_caller(silent_address, monkeypatch, scheme):
    pytest.importorskip("redis")
    monkeypatch.setattr(current_app.conf, "broker_url", f"{scheme}://{silent_address}/")
    begun = time.monotonic()
    nodes = [signal(handlers.step.s("x"), subject=f"s{n}") for n in range(5)]
    assert time.monotonic() - begun < PATIENCE
    assert Node.objects.filter(pk__in=[n.pk for n in nodes], status="queued").count() == 5


def test_one_message_that_cannot_be_sent_spares_the_others(worker, log, finished):
    current_app.amqp.queues.create_missing = False
    try:
        bad, good = signal_many(
            [
                (handlers.step.s("bad").set(queue="nobody-has-it"), {"subject": "a"}),
                (handlers.step.s("good"), {"subject": "b"}),
            ]
        )
        finished(good, 5)
    finally:
        current_app.amqp.queues.create_missing = True
    assert Node.objects.get(pk=bad.pk).status == "queued"


@pytest.mark.skipif("services.broker_kind() == 'embedded'", reason="it does not tell")
def test_the_depth_of_a_queue_is_asked_for():
    name = f"depth-{services.run_id()}"
    assert broker.depths.ask(name) == 0
    with current_app.connection_for_write() as connection:
        queue = Queue(name, routing_key=name)(connection.default_channel)
        queue.declare()
        for _ in range(3):
            connection.Producer().publish({}, routing_key=name)
        assert broker.depths.ask(name) == 3
        queue.purge()
        queue.delete()
    assert broker.depths.ask(name) == 0

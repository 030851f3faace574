"""The overview asks the broker how long its queue is, and never waits long for the answer."""

from __future__ import annotations

import socket
import time

import pytest
from celery import current_app

from backbeat_celery.admin.broker import PATIENCE, Asker, Depth
from tests import services


@pytest.fixture
def broker(monkeypatch):
    def use(url):
        monkeypatch.setattr(current_app.conf, "broker_url", url)
        monkeypatch.setattr(current_app.conf, "broker_read_url", url)
        return Asker()

    return use


def test_embedded_broker_cannot_tell(broker):
    assert broker("sqla+sqlite:///:memory:").ask() is None


def test_redis_tells(broker):
    url = services.start_valkey()
    asker = broker(url)
    with current_app.connection_for_write() as connection:
        queue = current_app.amqp.queues[current_app.conf.task_default_queue]
        queue(connection.default_channel).declare()
        producer = connection.Producer()
        for _ in range(3):
            producer.publish({}, routing_key=queue.name)
    assert asker.ask() == Depth(queue.name, 3)


def test_broker_that_says_nothing_costs_a_second_once(broker):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asker = broker(f"amqp://127.0.0.1:{silent.getsockname()[1]}//")
        asked_in_vain(asker)


def asked_in_vain(asker):
    start = time.monotonic()
    assert asker.ask() is None
    assert time.monotonic() - start < PATIENCE + 1
    start = time.monotonic()
    assert asker.ask() is None
    assert time.monotonic() - start < 0.5

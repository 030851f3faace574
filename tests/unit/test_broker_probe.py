"""The broker is asked how many messages a queue has, and never waited for longer than a second."""

from __future__ import annotations

import socket

import pytest
from celery import current_app

from backbeat_celery.engine.delivery.broker_probe import BrokerProbe
from tests import pace, services


@pytest.fixture
def broker(monkeypatch):
    def use(url):
        monkeypatch.setattr(current_app.conf, "broker_url", url)
        monkeypatch.setattr(current_app.conf, "broker_read_url", url)
        return BrokerProbe()

    return use


def test_embedded_broker_cannot_tell(broker):
    assert broker("sqla+sqlite:///:memory:").count_messages("celery") is None


def test_redis_tells(broker):
    url = services.start_valkey()
    probe = broker(url)
    with current_app.connection_for_write() as connection:
        queue = current_app.amqp.queues[current_app.conf.task_default_queue]
        queue(connection.default_channel).declare()
        producer = connection.Producer()
        for _ in range(3):
            producer.publish({}, routing_key=queue.name)
    assert probe.count_messages(queue.name) == 3


def test_broker_that_says_nothing_is_asked_once(broker):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        probe = broker(f"amqp://127.0.0.1:{silent.getsockname()[1]}//")
        assert probe.count_messages("celery") is None
        silent.settimeout(pace.allowed(30))
        silent.accept()[0].close()
        assert probe.count_messages("celery") is None
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()

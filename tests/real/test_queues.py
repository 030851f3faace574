"""What a real broker tells of a queue, and that one which says nothing costs a second at most."""

from __future__ import annotations

import socket
from contextlib import closing
from uuid import uuid4

import pytest
from celery import current_app
from kombu import Connection, Queue

from backbeat_celery.engine.delivery.broker_probe import BrokerProbe, QueueState
from backbeat_celery.engine.delivery.routing import queue_of
from tests import pace, workflows
from tests.services import RABBITMQ_URL, is_listening
from tests.waiting import until

pytestmark = pytest.mark.real
NEEDS_RABBITMQ = pytest.mark.skipif(
    not is_listening(RABBITMQ_URL), reason="no RabbitMQ at 127.0.0.1:5672"
)


@pytest.fixture
def at(monkeypatch):
    """Let the app's broker be at an address."""

    def move(url):
        monkeypatch.setattr(current_app.conf, "broker_read_url", url)

    return move


@NEEDS_RABBITMQ
def test_rabbitmq_tells_who_listens_to_a_queue(at):
    at(RABBITMQ_URL)
    name = f"backbeat-test-{uuid4()}"
    listened = QueueState(name, consumers=1, messages=1)
    listened_and_taken = QueueState(name, consumers=1)
    until(lambda: BrokerProbe().queue(name) == QueueState(name, exists=False), 30)
    with Connection(RABBITMQ_URL) as connection:
        queue = Queue(name, channel=connection.channel())
        queue.declare()
        try:
            with connection.Producer() as producer:
                producer.publish({"x": 1}, routing_key=name)
            until(lambda: BrokerProbe().queue(name) == QueueState(name, messages=1), 30)
            with connection.Consumer([Queue(name)], callbacks=[lambda body, message: None]):
                until(lambda: BrokerProbe().queue(name) in {listened, listened_and_taken}, 30)
        finally:
            queue.delete()


def test_a_broker_that_says_nothing_is_left_alone_for_a_while(at):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        at(f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}//")
        probe = BrokerProbe()
        assert probe.queue("any") is None
        server.settimeout(pace.allowed(30))
        server.accept()[0].close()
        assert probe.queue("any") is None
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_broker_that_cannot_tell_says_nothing(at):
    at("memory://")
    assert BrokerProbe().queue("any") is None


def test_the_queue_of_a_node_follows_its_options_and_the_routes():
    task = workflows.done.name
    assert queue_of(task, {}) == current_app.conf.task_default_queue
    assert queue_of(task, {"queue": "slow"}) == "slow"

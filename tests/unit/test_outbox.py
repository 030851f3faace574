"""What becomes of messages that cannot be sent now, and who waits for it."""

from __future__ import annotations

import pytest
from django.db import OperationalError
from kombu import Connection, pools

from backbeat_celery import signal
from backbeat_celery.engine.advance import advance_after_commit
from backbeat_celery.engine.after_commit import AfterCommit, Publication
from backbeat_celery.engine.delivery import outbox, producers
from backbeat_celery.engine.delivery.message_templates import Templates
from backbeat_celery.engine.delivery.producers import Broker
from backbeat_celery.runtime import failpoints, transactions
from tests import workflows


@pytest.fixture
def broker(monkeypatch):
    """A broker in memory, whose pool has one producer."""
    monkeypatch.setattr(producers, "TIMEOUT", 0.01)
    monkeypatch.setattr(pools.producers, "limit", 1)
    broker = Broker("memory", Connection("memory://busy"), Templates())
    monkeypatch.setattr(outbox, "current_broker", lambda: broker)
    return broker


@pytest.mark.exact
def test_busy_producers_are_no_dead_broker(sim, broker, caplog):
    sender = outbox.BrokerOutbox()
    node = signal(workflows.done.s(), subject="camera")
    sent = [Publication(node.pk, 1, node.task, {}, 0.0, "()", "{}")]
    arrived = []
    with broker.producer():
        sender.send(sent, "default")
        sender.call_task("some.task")
    assert caplog.text.count("All 1 producers of this process were busy") == 2
    node.refresh_from_db()
    assert node.publish_at < sim.now, "the sweeper does not send it at its next pass"
    with failpoints.watched(arrived.append):
        sender.send(sent, "default")
    assert "sent_one" in arrived, "the broker is left alone although it is well"


@pytest.mark.exact
@pytest.mark.django_db(transaction=True)
def test_a_web_request_waits_for_no_database_that_is_away(monkeypatch, caplog):
    pauses, looks = [], []
    monkeypatch.setattr(transactions.time, "sleep", pauses.append)
    monkeypatch.setattr(transactions, "MAX_OUTAGE", 0.2)
    node = signal(workflows.done.s(), subject="camera")

    def away(name):
        if name == "looked":
            looks.append(name)
            raise OperationalError("the database is away")

    with failpoints.watched(away):
        advance_after_commit(AfterCommit(maybe_complete=[node.pk]), "default")
    assert (len(looks), pauses) == (1, [])
    assert "the database is away" in caplog.text

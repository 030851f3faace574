"""Messages that are copies are what Celery would have sent."""

from __future__ import annotations

import pytest
from celery import current_app, signals
from kombu import Connection

from backbeat_celery.engine import publish
from backbeat_celery.engine.copies import may_copy, of_a_kind
from backbeat_celery.engine.wake import Publication
from backbeat_celery.ids import uuid7
from tests import workflows

HAVE_OWN_VALUES = {"id", "root_id", "correlation_id", "delivery_tag"}


@pytest.fixture
def messages(monkeypatch):
    """Send publications to a broker in memory; give what has arrived."""
    app = publish._app()
    connection = Connection("memory://", transport_options={"polling_interval": 0})
    broker = publish._Broker("memory", connection, publish.Originals())
    monkeypatch.setattr(publish, "_broker", lambda: broker)

    def send(publications, copies=True):
        if not copies:
            monkeypatch.setattr(publish, "may_copy", lambda app, publication: False)
        publish.BrokerOutbox().send(publications, "default")
        name = publications[0].options.get("queue", app.conf.task_default_queue)
        queue = app.amqp.queues[name](connection.channel())
        found = []
        while (message := queue.get(no_ack=True)) is not None:
            found.append(message)
        return found

    return send


def publications(number, **options):
    task = workflows.done.name
    return [Publication(uuid7(), 1, task, options, 0.0, f"({n},)", "{}") for n in range(number)]


def shown(message):
    values = {**message.headers, **message.properties, "body": message.body}
    return {name: value for name, value in values.items() if name not in HAVE_OWN_VALUES}


@pytest.mark.parametrize("options", [{}, {"queue": "other"}, {"priority": 3, "time_limit": 5}])
@pytest.mark.parametrize("number", [1, 3, 250])
def test_copies_are_what_celery_sends(messages, options, number):
    sent = publications(number, **options)
    copied = messages(sent)
    made = messages(sent, copies=False)
    assert len(copied) == len(made) == number
    assert [shown(message) for message in copied] == [shown(message) for message in made]


def test_each_copy_has_an_id_of_its_own(messages):
    found = messages(publications(5))
    for message in found:
        assert message.headers["id"] == message.headers["root_id"]
        assert message.headers["id"] == message.properties["correlation_id"]
        assert message.headers["parent_id"] is None
    assert len({message.headers["id"] for message in found}) == 5


def test_each_copy_names_its_own_node(messages):
    sent = publications(5)
    named = [message.headers["backbeat"]["node"] for message in messages(sent)]
    assert named == [str(publication.node_id) for publication in sent]


def test_messages_of_different_kinds_are_not_copies_of_each_other(messages):
    kinds = list(of_a_kind([*publications(2), *publications(2, priority=1), *publications(1)]))
    assert [len(kind) for kind in kinds] == [3, 2]


@pytest.mark.parametrize("signal", [signals.before_task_publish, signals.after_task_publish])
def test_whoever_looks_at_each_message_is_shown_each(messages, signal):
    seen = []

    def receiver(**named):
        seen.append(named["headers"]["id"])

    signal.connect(receiver)
    try:
        assert not may_copy(publish._app(), publications(1)[0])
        messages(publications(4))
    finally:
        signal.disconnect(receiver)
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("name", "value"), [("task_send_sent_event", True), ("task_inherit_parent_priority", True)]
)
def test_what_depends_on_the_sender_is_not_copied(name, value, monkeypatch):
    assert may_copy(publish._app(), publications(1)[0])
    monkeypatch.setitem(current_app.conf.changes, name, value)
    assert not may_copy(publish._app(), publications(1)[0])


def test_what_is_due_later_is_not_copied():
    late = Publication(uuid7(), 1, workflows.done.name, {}, 5.0, "()", "{}")
    assert not may_copy(publish._app(), late)

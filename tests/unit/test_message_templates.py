"""Messages made from a template are what Celery would have sent."""

from __future__ import annotations

from uuid import UUID

import pytest
from celery import current_app, signals
from kombu import Connection, Producer

from backbeat_celery.engine.after_commit import Publication
from backbeat_celery.engine.delivery import outbox
from backbeat_celery.engine.delivery.message_templates import (
    Templates,
    group_by_template,
    is_templatable,
)
from backbeat_celery.engine.delivery.producers import Broker
from backbeat_celery.runtime.compat.celery import app_in_use
from backbeat_celery.runtime.ids import uuid7
from tests import workflows

HAVE_OWN_VALUES = {"id", "root_id", "correlation_id", "delivery_tag"}


@pytest.fixture
def messages(monkeypatch):
    """Send publications to a broker in memory; give what has arrived."""
    app = app_in_use()
    connection = Connection("memory://", transport_options={"polling_interval": 0})
    broker = Broker("memory", connection, Templates())
    monkeypatch.setattr(outbox, "current_broker", lambda: broker)

    def send(publications, templates=True, sender=None, using="default"):
        if not templates:
            monkeypatch.setattr(outbox, "is_templatable", lambda app, publication: False)
        name = publications[0].options.get("queue", app.conf.task_default_queue)
        queue = app.amqp.queues[name](connection.channel())
        queue.declare()
        (sender or outbox.BrokerOutbox()).send(publications, using)
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
    assert values["backbeat"]["id"] == values["id"]
    values["backbeat"] = {**values["backbeat"], "id": None}
    return {name: value for name, value in values.items() if name not in HAVE_OWN_VALUES}


@pytest.mark.parametrize("options", [{}, {"queue": "other"}, {"priority": 3, "time_limit": 5}])
@pytest.mark.parametrize("number", [1, 3, 250])
def test_copies_are_what_celery_sends(messages, options, number):
    sent = publications(number, **options)
    copied = messages(sent)
    made = messages(sent, templates=False)
    assert len(copied) == len(made) == number
    assert [shown(message) for message in copied] == [shown(message) for message in made]


@pytest.mark.parametrize("options", [{}, {"queue": "other"}, {"priority": 3, "time_limit": 5}])
def test_a_message_that_was_prepared_is_what_is_sent(messages, options, monkeypatch):
    first, second = publications(2, **options)
    sender = outbox.BrokerOutbox()
    (made,) = messages([first], sender=sender)
    sender.prepare(second, "default")
    monkeypatch.setattr(outbox, "_send_all", None)
    (prepared,) = messages([second], sender=sender)
    assert shown(prepared) | {"backbeat": None, "argsrepr": ""} == (
        shown(made) | {"backbeat": None, "argsrepr": ""}
    )
    assert prepared.headers["backbeat"]["node"] == str(second.node_id)
    assert prepared.headers["argsrepr"] == second.argsrepr


@pytest.mark.parametrize("asked", ["another", "several", "in another database", "again"])
def test_a_message_that_was_prepared_in_vain_is_forgotten(messages, asked):
    first, second, third = publications(3)
    sender = outbox.BrokerOutbox()
    messages([first], sender=sender)
    sender.prepare(second, "default")
    wanted = {"another": [third], "several": [second, third]}.get(asked, [second])
    using = "other" if asked == "in another database" else "default"
    for _ in range(2 if asked == "again" else 1):
        found = messages(wanted, sender=sender, using=using)
        said = [(m.headers["backbeat"]["node"], m.headers["backbeat"]["db"]) for m in found]
        assert said == [(str(one.node_id), using) for one in wanted]
    assert len({message.headers["id"] for message in found}) == len(wanted)


def test_what_cannot_be_prepared_is_sent_all_the_same(messages, monkeypatch):
    sender, (first, second) = outbox.BrokerOutbox(), publications(2)
    messages([first], sender=sender)
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "is_templatable", lambda *args: 1 / 0)
        sender.prepare(second, "default")
    assert len(messages([second], sender=sender)) == 1


def test_a_kombu_without_batches_gets_each_message_by_itself(messages, monkeypatch):
    monkeypatch.delattr(Producer, "batch", raising=False)  # new in kombu 5.7
    assert len(messages(publications(250))) == 250


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
    kinds = list(
        group_by_template([*publications(2), *publications(2, priority=1), *publications(1)])
    )
    assert [len(kind) for kind in kinds] == [3, 2]


@pytest.mark.parametrize("signal", [signals.before_task_publish, signals.after_task_publish])
def test_whoever_looks_at_each_message_is_shown_each(messages, signal):
    seen = []

    def receiver(**named):
        seen.append(named["headers"]["id"])

    # Celery 5.6 loses sight of all receivers once a weak one has died.
    signal.connect(receiver, weak=False)
    try:
        assert not is_templatable(app_in_use(), publications(1)[0])
        messages(publications(4))
    finally:
        signal.disconnect(receiver)
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("name", "value"), [("task_send_sent_event", True), ("task_inherit_parent_priority", True)]
)
def test_what_depends_on_the_sender_is_not_copied(name, value, monkeypatch):
    assert is_templatable(app_in_use(), publications(1)[0])
    monkeypatch.setitem(current_app.conf.changes, name, value)
    assert not is_templatable(app_in_use(), publications(1)[0])


def test_what_is_due_later_is_not_copied():
    late = Publication(uuid7(), 1, workflows.done.name, {}, 5.0, "()", "{}")
    assert not is_templatable(app_in_use(), late)


@pytest.mark.parametrize("templates", [True, False])
def test_the_ids_of_messages_grow_with_time(messages, templates):
    """The index that finds a node by such an id grows at one end."""
    ids = [message.headers["id"] for message in messages(publications(5), templates=templates)]
    assert len(set(ids)) == 5
    assert ids == sorted(ids)
    assert {UUID(made).version for made in ids} == {7}

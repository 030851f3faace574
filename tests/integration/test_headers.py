"""Headers that a caller's surroundings put on messages: each node has those of its creation."""

from __future__ import annotations

import functools
import json
import uuid
from contextvars import ContextVar
from datetime import UTC, datetime

import pytest
from celery import Celery, Task, chord, signals
from django.db import transaction
from kombu import Connection, Producer

from backbeat_celery import current_node, signal, signal_many
from backbeat_celery.engine.after_commit import Publication
from backbeat_celery.engine.delivery import outbox
from backbeat_celery.engine.delivery.message_templates import Templates
from backbeat_celery.engine.delivery.producers import Broker
from backbeat_celery.exceptions import BadInput, UnsupportedOption
from backbeat_celery.models import Node, Workflow
from backbeat_celery.runtime.compat.celery import app_in_use
from tests import workflows

user: ContextVar[str] = ContextVar("user", default="nobody")


def signed(headers):
    return {"user": user.get(), **(headers or {})}


def by_receiver(monkeypatch):
    def on_publish(headers=None, **_):
        headers["user"] = user.get()

    signals.before_task_publish.connect(on_publish, weak=False, dispatch_uid="test")


def by_wrapping(owner, name):
    """As Sentry does: the wrapper bears the names of what it wraps."""

    def patch(monkeypatch):
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapper(*args, **options):
            headers = options.get("headers")
            return original(
                *args, **{**options, "headers": {**(headers or {}), "user": user.get()}}
            )

        monkeypatch.setattr(owner, name, wrapper)

    return patch


def by_overriding_send_task(monkeypatch):
    """As tenant-schemas-celery does: what is there stays."""

    class Tenants(type(app_in_use())):
        def send_task(self, name, args=None, kwargs=None, **options):
            options["headers"] = signed(options.get("headers"))
            return super().send_task(name, args=args, kwargs=kwargs, **options)

    monkeypatch.setattr(app_in_use(), "__class__", Tenants)


def by_overriding_apply_async(monkeypatch):
    def apply_async(self, args=None, kwargs=None, **options):
        assert "policy" not in options  # which a node with a rule of its own keeps
        headers = signed(options.pop("headers", None))
        return Task.apply_async(self, args, kwargs, headers=headers, **options)

    for task in (workflows.scripted, workflows.bundled):
        monkeypatch.setattr(class_of(task), "apply_async", apply_async)


def class_of(task):
    """A task's own class; what the module has is a proxy."""
    return type(app_in_use().tasks[task.name])


WAYS = {
    "receiver": by_receiver,
    "patched send_task": by_wrapping(Celery, "send_task"),
    "patched apply_async": by_wrapping(Task, "apply_async"),
    "patched publish": by_wrapping(Producer, "publish"),
    "overridden send_task": by_overriding_send_task,
    "overridden apply_async": by_overriding_apply_async,
}


@pytest.fixture(params=WAYS)
def surroundings(request, monkeypatch):
    """Somebody puts the current user's name on every message."""
    WAYS[request.param](monkeypatch)
    yield request.param
    signals.before_task_publish.disconnect(dispatch_uid="test")


@pytest.fixture
def seen(script):
    """What the handlers have seen, each with the number of its attempt."""
    told = []

    def note(task=None):
        headers = workflows.scripted.request.headers or {}
        told.append((headers.get("user"), current_node().attempt))

    script(note)
    return told


def as_user(name, function, *args, **options):
    token = user.set(name)
    try:
        return function(*args, **options)
    finally:
        user.reset(token)


def scripted(name="main"):
    return workflows.scripted.s(name)


def test_each_signal_has_the_headers_of_its_own_sender(sim, surroundings, seen):
    for name in ("ann", "bob", "cid"):
        as_user(name, signal, scripted(), subject="camera")
    as_user("worker", sim.run)
    assert seen == [("ann", 1), ("bob", 1), ("cid", 1)]


def test_every_attempt_sees_them_whoever_publishes_it(sim, surroundings, script, seen):
    def fail(task):
        seen.append((task.request.headers.get("user"), current_node().attempt))
        if current_node().attempt < 3:
            raise RuntimeError("not yet")

    script(fail)
    as_user("ann", signal, workflows.scripted.s().set(countdown=500), subject="camera")
    user.set("sweeper")
    sim.advance(seconds=490)
    sim.lose_messages()
    sim.advance(hours=2)
    user.set("nobody")
    assert seen == [("ann", 1), ("ann", 2), ("ann", 3)]


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_they_are_those_of_the_call(sim, surroundings, seen):
    with transaction.atomic():
        as_user("ann", signal, scripted(), subject="camera")
        as_user("bob", signal_many, [(scripted(), {"subject": "lens"})])
    as_user("cid", sim.run)
    assert sorted(seen) == [("ann", 1), ("bob", 1)]


def test_children_have_those_of_the_handler_that_spawns_them(sim, surroundings, script, seen):
    def spawn(task):
        as_user("first", current_node().spawn, scripted("child"))
        as_user("second", current_node().spawn_many, [scripted("child")])
        as_user("third", signal, scripted("child"), subject="lens")

    script(spawn)
    script(lambda task: seen.append(task.request.headers["user"]), "child")
    node = as_user("ann", signal, scripted(), subject="camera")
    as_user("dan", node.add_child, scripted("child"))
    as_user("eve", Workflow.objects.for_subject("lamp", "x").signal, scripted("child"))
    sim.run()
    assert sorted(seen) == ["dan", "eve", "first", "second", "third"]


def test_a_bundle_holds_nodes_with_the_same_headers(sim, surroundings, script):
    seen = []

    def note(task, number):
        seen.append((task.request.headers["user"], number))

    def spawn(task):
        for number in range(8):
            call = workflows.bundled.s(number)
            as_user(f"user {number % 2}", current_node().spawn, call, mode="non_blocking")

    script(note, "bundled")
    script(spawn)
    signal(scripted(), subject="camera")
    sim.step()
    assert sim.in_flight == 2
    sim.run()
    assert sorted(seen) == [(f"user {n % 2}", n) for n in (0, 2, 4, 6, 1, 3, 5, 7)]


def test_a_rescue_runs_for_whom_the_failed_node_ran(sim, surroundings, script):
    if "apply_async" in surroundings:
        pytest.skip("the tasks here are not those that are overridden")
    seen = []
    script(lambda node_id: seen.append(workflows.rescuing.request.headers["user"]), "rescue")
    as_user("ann", signal, workflows.rescued.s(), subject="camera")
    as_user("sweeper", sim.advance, hours=1)
    assert seen == ["ann"]


@pytest.mark.parametrize("form", ["link", "link_error", "link_error of a body"])
def test_a_callback_runs_for_whom_its_task_ran(sim, surroundings, script, form):
    if "apply_async" in surroundings:
        pytest.skip("the tasks here are not those that are overridden")
    seen = []
    script(lambda *_: seen.append(workflows.rescuing.request.headers["user"]), "rescue")
    script(lambda _: None)
    if form == "link":
        canvas = scripted()
        canvas.link(workflows.rescuing.s())
    elif form == "link_error":
        canvas = workflows.revealing.s("7").on_error(workflows.rescuing.s())
    else:
        canvas = chord([workflows.revealing.s("7")], workflows.scripted.si())
        canvas.body.link_error(workflows.rescuing.s())
    as_user("ann", signal, canvas, subject="camera")
    as_user("sweeper", sim.advance, hours=1)
    assert seen == ["ann"]


def test_a_callback_keeps_its_own_headers_and_has_no_stamps_of_its_task(sim, script):
    seen = []

    def note(*_):
        request = workflows.rescuing.request
        seen.append((request.headers, request.stamps))

    script(note, "rescue")
    script(lambda _: None)
    call = scripted().set(headers={"tenant": "acme", "trace": "1"})
    call.stamp(batch="b7")
    call.link(workflows.rescuing.s().set(headers={"trace": "2"}))
    signal(call, subject="camera")
    sim.run()
    assert seen == [({"tenant": "acme", "trace": "2"}, None)]


def test_headers_and_stamps_of_a_signature_go_along(sim, script):
    seen = []

    def note(task):
        request = task.request
        seen.append((request.headers, request.stamped_headers, request.stamps))
        raise RuntimeError("once more")

    script(note)
    when = datetime(2026, 1, 2, tzinfo=UTC)
    call = scripted().set(headers={"tenant": "acme", "when": when, "id_": uuid.UUID(int=7)})
    call.stamp(batch="b7")
    signal(call, subject="camera")
    sim.advance(minutes=5)
    assert len(seen) > 1
    for headers, stamped, stamps in seen:
        assert {k: headers[k] for k in ("tenant", "when", "id_")} == {
            "tenant": "acme",
            "when": when,
            "id_": uuid.UUID(int=7),
        }
        assert (stamped, stamps) == (["batch"], {"batch": "b7"})


def test_a_node_may_hand_on_the_headers_that_it_has(sim, surroundings, script, seen):
    def hand_on(task):
        current_node().spawn(scripted("child").set(headers=task.request.headers))

    script(hand_on)
    script(lambda task: seen.append(task.request.headers), "child")
    as_user("ann", signal, scripted().set(headers={"tenant": "acme"}), subject="camera")
    sim.run()
    (headers,) = seen
    assert headers["tenant"] == "acme"
    child = Node.objects.get(parent__parent__isnull=False)
    assert not {*headers, *child.options["headers"]} & {"backbeat", "backbeat_claim"}


@pytest.mark.parametrize(
    "headers",
    [
        {"id": "7"},
        {"timelimit": [1, 2]},
        {"object": object()},
        {"large": "x" * 300_000},
        {"nul": "\x00"},
        {1: "a number"},
        ["a list"],
    ],
)
def test_headers_that_cannot_be_kept_are_refused(headers, db):
    with pytest.raises(UnsupportedOption, match="headers"):
        signal(scripted().set(headers=headers), subject="camera")
    assert not Node.objects.exists()


def test_surroundings_that_refuse_refuse_the_signal(sim, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError("no tenant")

    monkeypatch.setattr(Celery, "send_task", refuse)
    with pytest.raises(PermissionError):
        signal(scripted(), subject="camera")
    assert not Node.objects.exists()


def test_an_apply_async_that_makes_a_node_makes_one(sim, monkeypatch, seen):
    def apply_async(self, args=None, kwargs=None, **options):
        return signal(self.s(*args or (), **kwargs or {}), subject="camera")

    monkeypatch.setattr(class_of(workflows.scripted), "apply_async", apply_async)
    by_receiver(monkeypatch)
    try:
        as_user("ann", workflows.scripted.apply_async)
    finally:
        signals.before_task_publish.disconnect(dispatch_uid="test")
    assert Node.objects.filter(parent__isnull=False).count() == 1
    sim.run()
    assert seen == [("ann", 1)]


def test_an_apply_async_that_is_put_off_adds_nothing_and_sends_nothing(sim, monkeypatch, seen):
    put_off = []

    def apply_async(self, *args, **options):
        put_off.append(functools.partial(Task.apply_async, self, *args, **options))

    monkeypatch.setattr(class_of(workflows.scripted), "apply_async", apply_async)
    monkeypatch.setattr(outbox, "current_broker", None)
    signal(scripted(), subject="camera")
    for call in put_off:
        call()
    sim.run()
    assert seen == [(None, 1)]


def test_eager_tasks_are_not_run_by_a_signal(sim, surroundings, seen, recwarn):
    app = app_in_use()
    app.conf.task_always_eager = True
    try:
        as_user("ann", signal, scripted(), subject="camera")
    finally:
        app.conf.task_always_eager = False
    assert not seen
    sim.run()
    assert len(seen) == 1
    assert not list(recwarn)


def test_where_nobody_adds_anything_no_message_is_made(sim, monkeypatch):
    def make(*args, **options):
        raise AssertionError

    monkeypatch.setattr("backbeat_celery.inputs.message_headers.HeaderRecorder", make)
    node = signal(workflows.tree.s({"spawn": [{}]}), subject="camera")
    sim.run()
    assert set(map(json.dumps, Node.objects.values_list("options", flat=True))) == {"{}"}
    assert node.options == {}


# On a broker ------------------------------------------------------------------------------


@pytest.fixture
def sent(monkeypatch):
    """Send publications to a broker in memory; give the headers of what has arrived."""
    app = app_in_use()
    connection = Connection("memory://", transport_options={"polling_interval": 0})
    broker = Broker("m", connection, Templates())
    monkeypatch.setattr(outbox, "current_broker", lambda: broker)

    def send(*publications):
        outbox.BrokerOutbox().send(publications, "default")
        queue = app.amqp.queues[app.conf.task_default_queue](connection.channel())
        found = []
        while (message := queue.get(no_ack=True)) is not None:
            found.append(message.headers)
        return found

    return send


def publication(**headers):
    pk = uuid.uuid4()
    return Publication(pk, 1, workflows.done.name, {}, 0.0, "()", "{}", headers=headers)


def test_who_publishes_adds_nothing(sent, surroundings):
    user.set("sweeper")
    messages = sent(publication(user="ann"), publication(), publication(user="bob", other=1))
    user.set("nobody")
    expected = ["ann", None, "bob"]
    if surroundings == "patched publish":  # below Celery, where a message is only bytes to us
        expected = ["sweeper"] * 3
    assert [headers.get("user") for headers in messages] == expected
    assert messages[2]["other"] == 1
    assert all("node" in headers["backbeat"] for headers in messages)


def test_copies_have_the_headers_of_their_own_nodes(sent):
    nested = {"headers": {"trace": "1"}}
    first = sent(publication(user="ann", **nested), publication(user="bob"))
    assert [headers.get("user") for headers in first] == ["ann", "bob"]
    assert ["headers" in headers for headers in first] == [True, False]
    (again,) = sent(publication())
    assert "user" not in again


def test_a_name_that_is_no_header_is_refused():
    with pytest.raises(BadInput):
        signal(scripted().set(headers={"task": "other"}), subject="camera")

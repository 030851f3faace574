"""What a handler sees of its node, and that nobody else sees it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

from backbeat_celery import current_node, signal
from backbeat_celery.exceptions import BadInput, BadMode, BadPayload, BadTime, NotInNode
from backbeat_celery.models import Node
from tests import workflows


@pytest.fixture
def inside(sim, monkeypatch):
    """Run a function inside a handler; give the node and what the function gave."""

    def run(function):
        seen: list = []
        monkeypatch.setitem(
            workflows.scripts, "main", lambda task: seen.append(function(current_node()))
        )
        node = signal(workflows.scripted.s(), subject="camera", metadata={"order": 7})
        sim.run()
        node.refresh_from_db()
        return node, *seen

    return run


def test_outside_there_is_no_node():
    with pytest.raises(NotInNode, match="inside a handler"):
        current_node()


def test_a_task_called_directly_is_not_in_a_node():
    with pytest.raises(NotInNode):
        workflows.flaky(0)


def test_a_spawn_outside_a_handler_leaves_no_row(db):
    with pytest.raises(NotInNode):
        current_node().spawn(workflows.done.s())
    assert not Node.objects.exists()


def test_inside_the_node_knows_itself(inside):
    names = ["id", "workflow_id", "parent_id", "subject", "name", "attempt", "metadata"]
    node, seen = inside(lambda current: [getattr(current, name) for name in names])
    assert seen == [
        node.pk,
        node.workflow_id,
        node.workflow_id,
        "camera",
        workflows.scripted.name,
        1,
        {"order": 7},
    ]


def test_the_idempotency_key_is_the_same_for_every_attempt(sim, monkeypatch):
    keys: list = []

    def fail(task):
        keys.append(current_node().idempotency_key)
        raise RuntimeError

    monkeypatch.setitem(workflows.scripts, "main", fail)
    signal(workflows.scripted.s(), subject="camera")
    signal(workflows.scripted.s(), subject="lens")
    sim.advance(minutes=5)
    assert len(keys) == 6
    assert len(set(keys)) == 2
    assert all(isinstance(key, str) for key in keys)


def test_after_the_handler_there_is_no_node(inside):
    inside(lambda current: None)
    with pytest.raises(NotInNode):
        current_node()


def test_after_a_handler_that_failed_there_is_no_node(inside):
    inside(lambda current: 1 / 0)
    with pytest.raises(NotInNode):
        current_node()


def test_another_thread_is_not_in_the_node(inside):
    def look(current):
        found: list = []

        def work():
            try:
                found.append(current_node())
            except NotInNode as exc:
                found.append(exc)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return found[0]

    assert isinstance(inside(look)[1], NotInNode)


def test_a_thread_that_is_given_the_context_may_spawn(inside):
    def spawn(current):
        with ThreadPoolExecutor(1) as pool:
            child = pool.submit(
                copy_context().run, lambda: current_node().spawn(workflows.done.s())
            )
            return child.result().id

    node, child = inside(spawn)
    assert node.children.get().pk == child


def test_the_id_of_a_child_is_known_at_once(inside):
    node, child = inside(lambda current: current.spawn(workflows.done.s()))
    assert node.children.get().pk == child.id
    assert str(child.id) in repr(child)


def test_spawn_many_gives_a_handle_for_each(inside):
    node, handles = inside(
        lambda current: current.spawn_many(
            (workflows.done.s(n) for n in range(3)), mode="non_blocking", metadata={"a": 1}
        )
    )
    children = node.children.order_by("seq")
    assert [child.pk for child in children] == [handle.id for handle in handles]
    assert [child.args for child in children] == [[0], [1], [2]]
    assert {(child.mode, child.metadata["a"]) for child in children} == {("non_blocking", 1)}


def test_a_task_may_say_the_mode_of_its_spawns(inside):
    node, _ = inside(lambda current: current.spawn(workflows.non_blocking_by_default))
    assert node.children.get().mode == "non_blocking"


def test_the_place_that_spawns_has_the_last_word_on_the_mode(inside):
    node, _ = inside(
        lambda current: current.spawn(workflows.non_blocking_by_default, mode="blocking")
    )
    assert node.children.get().mode == "blocking"


def test_the_attempt_is_wanted_while_it_runs(inside):
    assert inside(lambda current: current.is_wanted())[1] is True


def test_a_fenced_attempt_is_not_wanted(inside):
    def lose(current):
        Node.objects.filter(pk=current.id).update(claim_id=None)
        return current.is_wanted()

    assert inside(lose)[1] is False


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"mode": "parallel"}, BadMode),
        ({"mode": "non_blocking", "barrier": True}, BadMode),
        ({"delay": -1}, BadTime),
        ({"key": ""}, BadInput),
        ({"metadata": []}, BadPayload),
    ],
)
def test_a_bad_spawn_is_told_at_the_spawn(inside, options, kind):
    def spawn(current):
        with pytest.raises(kind):
            current.spawn(workflows.done.s(), **options)

    node, _ = inside(spawn)
    assert node.status == "complete"
    assert not node.children.exists()

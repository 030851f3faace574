"""Idempotency keys: a second child of the same parent with the same key is the first one."""

from __future__ import annotations

import pytest
from django.db import OperationalError

from backbeat_celery import current_node, signal, signal_many
from backbeat_celery.models import Node, Workflow
from backbeat_celery.verbs import add_child, signals
from tests import workflows


def test_a_second_signal_with_the_same_key_is_the_first(sim):
    first = signal(workflows.done.s(1), subject="camera", key="k")
    second = signal(workflows.done.s(2), subject="camera", key="k")
    sim.run()
    assert first.pk == second.pk
    assert [call.args for call in sim.calls] == [[1]]


def test_the_first_is_found_after_it_is_complete(sim):
    first = signal(workflows.done.s(1), subject="camera", key="k")
    sim.run()
    second = signal(workflows.done.s(2), subject="camera", key="k")
    assert (second.pk, second.status, second.result) == (first.pk, "complete", 1)


def test_another_workflow_has_its_own_keys(sim):
    a = signal(workflows.done.s(), subject="camera", key="k")
    b = signal(workflows.done.s(), subject="lens", key="k")
    assert a.pk != b.pk


def test_another_run_has_its_own_keys(sim):
    first = signal(workflows.done.s(), subject="camera", key="k")
    sim.run()
    Workflow.objects.update(closed_at=sim.now)
    sim.sweep()
    second = signal(workflows.done.s(), subject="camera", key="k")
    assert second.pk != first.pk
    assert second.workflow.run == 2


def test_signal_many_finds_keys_of_its_own_and_older_ones(sim):
    old = signal(workflows.done.s(), subject="camera", key="a")
    options = [{"subject": "camera", "key": key} for key in "abb"]
    a, b, again = signal_many([(workflows.done.s(), o) for o in options])
    assert a.pk == old.pk
    assert b.pk == again.pk != a.pk


def test_a_child_from_outside_with_a_known_key_is_the_known_one(sim, run_tree):
    node = run_tree({"delay": 60, "key": "k"})
    assert add_child(node, workflows.done.s(), key="k").pk == node.children.get().pk


def test_spawns_with_one_key_are_one_child(sim, script):
    ids = []

    def spawn(task):
        ids.extend(current_node().spawn(workflows.done.s(n), key="k").id for n in range(3))

    script(spawn)
    node = signal(workflows.scripted.s(), subject="camera")
    sim.run()
    assert {node.children.get().pk} == set(ids)


def test_a_spawn_finds_the_child_that_came_from_outside(sim, script):
    ids = []
    script(lambda task: ids.append(current_node().spawn(workflows.done.s(), key="k").id))
    node = signal(workflows.scripted.s(), subject="camera", delay=9)
    child = add_child(node, workflows.done.s(), key="k")
    sim.advance(seconds=10)
    assert ids == [child.pk] == [c.pk for c in node.children.all()]


def test_a_child_from_outside_during_the_handler_wins_the_key(sim, script):
    def spawn(task):
        current_node().spawn(workflows.done.s("inside"), key="k")
        add_child(Node.objects.get(pk=current_node().id), workflows.done.s("outside"), key="k")

    script(spawn)
    node = signal(workflows.scripted.s(), subject="camera")
    sim.run()
    node.refresh_from_db()
    assert [child.args for child in node.children.all()] == [["outside"]]
    assert node.status == "complete"


def test_children_of_two_parents_may_have_one_key(run_tree):
    child = {"shape": {"spawn": [{"key": "k"}]}}
    run_tree(child, child)
    assert Node.objects.filter(key="k").count() == 2


@pytest.mark.parametrize("fails", [False, True])
def test_signals_inside_a_handler_are_sent_once(sim, fails):
    signal(workflows.signalling.s("lens", fails), subject="camera")
    sim.advance(minutes=10)
    sent = Node.objects.filter(task=workflows.done.name)
    assert sorted(node.args for node in sent) == [[1], [2]]


def test_a_signal_inside_a_handler_stays_sent_if_the_attempt_fails(sim, script):
    def send(task):
        signal(workflows.done.s(), subject="lens")
        raise RuntimeError

    script(send)
    node = signal(workflows.scripted.s(), subject="camera")
    sim.advance(hours=1)
    node.refresh_from_db()
    assert node.status == "failed"
    assert Node.objects.get(task=workflows.done.name).status == "complete"


def test_signals_to_two_workflows_are_counted_each(sim, script):
    def send(task):
        for subject in ("a", "b", "a"):
            signal(workflows.done.s(), subject=subject)
        if task.request.retries == 0:
            raise RuntimeError

    script(send)
    signal(workflows.scripted.s(), subject="camera")
    sim.advance(hours=1)
    counts = [w.nodes.filter(task=workflows.done.name).count() for w in Workflow.objects.all()]
    assert sorted(counts) == [0, 1, 2]


def test_signals_of_two_nodes_are_two(sim, script):
    script(lambda task: signal(workflows.done.s(), subject="lens") and None)
    for _ in range(2):
        signal(workflows.scripted.s(), subject="camera")
    sim.run()
    assert Node.objects.filter(task=workflows.done.name).count() == 2


def test_a_conflict_that_is_repeated_does_not_count_as_a_second_signal(sim, script, monkeypatch):
    """The transaction of the first attempt's signal is repeated after a deadlock."""
    original, conflicts = signals._append, [True]

    def append(*args):
        made = original(*args)
        if conflicts and args[1].task == workflows.done.name:
            conflicts.clear()
            raise OperationalError("database is locked")
        return made

    def repeat(work, *, using):
        try:
            return work()
        except OperationalError:
            return work()

    monkeypatch.setattr(signals, "_append", append)
    monkeypatch.setattr(signals, "repeat", repeat)

    def send(task):
        signal(workflows.done.s(), subject="lens")
        if task.request.retries == 0:
            raise RuntimeError

    script(send)
    Workflow.objects.for_subject("lens", workflows.done.name)
    signal(workflows.scripted.s(), subject="camera")
    sim.advance(minutes=5)
    assert Node.objects.filter(task=workflows.done.name).count() == 1

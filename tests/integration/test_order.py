"""Modes, stages, barriers: whose turn it is, and when a parent is complete."""

from __future__ import annotations

import pytest

from backbeat_celery import Mode, signal
from backbeat_celery.exceptions import BadInput
from backbeat_celery.models import Workflow
from backbeat_celery.verbs import add_child
from tests import workflows

BLOCKING = {"mode": "blocking"}
PARALLEL = {"mode": "non_blocking"}
FORGET = {"mode": "fire_and_forget"}
SOON = {"delay": 60}


def test_a_signal_runs_and_its_parent_waits_for_more(sim):
    node = signal(workflows.done.s(703), subject="camera")
    assert node.status == "queued"
    sim.run()
    node.refresh_from_db()
    assert (node.status, node.outcome, node.result) == ("complete", "succeeded", 703)
    assert node.workflow.root.status == "waiting"
    assert [(t.from_status, t.to_status) for t in node.history] == [
        ("", "queued"),
        ("queued", "running"),
        ("running", "complete"),
    ]
    assert [(a.number, a.outcome) for a in node.attempts] == [(1, "succeeded")]


def test_parent_completes_when_its_children_are(run_tree, statuses):
    node = run_tree(PARALLEL, PARALLEL, BLOCKING)
    assert statuses(node) == ["complete"] * 3
    assert node.status == "complete"
    assert [t.to_status for t in node.history] == ["queued", "running", "waiting", "complete"]


def test_children_start_in_order_whole_tree_by_whole_tree(sim, run_tree):
    deep = {"shape": {"name": "a", "spawn": [{"shape": {"name": "a1"}}]}}
    run_tree(deep, {"shape": {"name": "b"}})
    assert [c.args[0].get("name") for c in sim.calls] == [None, "a", "a1", "b"]


def test_blocking_child_holds_back_later_siblings_of_any_mode(run_tree, statuses):
    node = run_tree({**BLOCKING, **SOON}, PARALLEL, FORGET, BLOCKING)
    assert statuses(node) == ["queued", "ready", "ready", "ready"]


def test_blocking_child_does_not_wait_for_earlier_non_blocking_ones(run_tree, statuses):
    node = run_tree({**PARALLEL, **SOON}, BLOCKING)
    assert statuses(node) == ["queued", "complete"]
    assert node.status == "waiting"


def test_nobody_waits_for_fire_and_forget(sim, run_tree, statuses):
    node = run_tree({**FORGET, **SOON}, {**FORGET, "shape": {"fail_until": 99}})
    assert statuses(node) == ["queued", "retrying"]
    assert node.status == "complete"
    sim.advance(seconds=70)
    assert statuses(node)[0] == "complete"


def test_barrier_waits_for_every_earlier_sibling_that_counts(sim, run_tree, statuses):
    node = run_tree({**PARALLEL, **SOON}, FORGET, {"barrier": True}, PARALLEL)
    assert statuses(node) == ["queued", "complete", "ready", "ready"]
    sim.advance(seconds=61)
    assert statuses(node) == ["complete"] * 4
    node.refresh_from_db()
    assert node.status == "complete"


def test_two_barriers_open_one_after_the_other(sim, run_tree, statuses):
    node = run_tree(PARALLEL, {"barrier": True, **SOON}, PARALLEL, {"barrier": True})
    assert statuses(node) == ["complete", "queued", "ready", "ready"]
    sim.advance(seconds=61)
    assert statuses(node) == ["complete"] * 4


def test_a_failed_child_holds_the_barrier(sim, run_tree, statuses):
    node = run_tree({**PARALLEL, "shape": {"fail_until": 99}}, {"barrier": True})
    sim.advance(days=2)
    assert statuses(node) == ["failed", "ready"]
    node.refresh_from_db()
    assert node.status == "waiting"


@pytest.mark.parametrize("width", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_then_one(sim, run_tree, width):
    node = run_tree(*[PARALLEL] * width, {"barrier": True, "shape": {"name": "after"}})
    assert node.status == "complete"
    assert sim.calls[-1].args == [{"name": "after"}]
    assert len(sim.calls) == width + 2


def test_signals_of_one_workflow_run_one_at_a_time_in_order(sim):
    for n in range(30):
        signal(workflows.done.s(n), subject="camera")
    signal(workflows.done.s("overtaker"), subject="lens")
    sim.run()
    order = [call.args[0] for call in sim.calls]
    assert [n for n in order if n != "overtaker"] == list(range(30))
    assert order.index("overtaker") < 30


def test_flags_pass_in_a_run(run_tree, statuses):
    node = run_tree(*[{"flag": f"flag {n}"} for n in range(50)], BLOCKING)
    assert statuses(node) == ["complete"] * 51
    assert node.status == "complete"


def test_a_flag_waits_for_its_time(sim, run_tree, statuses):
    node = run_tree({"flag": "tomorrow", "delay": 86400}, BLOCKING)
    assert statuses(node) == ["queued", "ready"]
    sim.advance(hours=25)
    assert statuses(node) == ["complete", "complete"]


def test_flags_alone_complete_the_parent(run_tree):
    assert run_tree({"flag": "one"}, {"flag": "two", "barrier": True}).status == "complete"


@pytest.mark.parametrize("delay", [30, 3600])
def test_a_child_does_not_start_before_its_time(sim, run_tree, delay):
    run_tree({"delay": delay})
    sim.advance(seconds=delay - 1)
    assert len(sim.calls) == 1
    sim.advance(seconds=7)
    assert len(sim.calls) == 2


def test_child_added_from_outside_is_waited_for(sim, run_tree):
    node = run_tree({**PARALLEL, **SOON})
    child = node.add_child(workflows.done.s("late"), mode=Mode.NON_BLOCKING)
    assert child.status == "queued"
    sim.advance(seconds=61)
    node.refresh_from_db()
    assert [c.args[0] for c in sim.calls][1:] == ["late", {}]
    assert node.status == "complete"


@pytest.mark.parametrize("delay", [None, 60])
def test_a_flag_waits_neither_for_children_nor_for_links(sim, run_tree, delay):
    node = run_tree(SOON, {"flag": "mark", "delay": delay})
    flag = node.children.get(name="mark")
    with pytest.raises(BadInput, match="mark is a flag"):
        flag.add_child(workflows.done.s())
    with pytest.raises(BadInput, match="mark is a flag"):
        signal(workflows.done.s(), subject="lens", link=flag)
    assert not Workflow.objects.filter(subject="lens").exists()
    sim.advance(seconds=61)
    node.refresh_from_db()
    assert node.status == "complete"


def test_child_added_before_the_parent_runs_is_pending_and_first_in_line(sim, statuses):
    node = signal(workflows.tree.s({"spawn": [{}]}), subject="camera", delay=10)
    first = add_child(node, workflows.done.s("first"))
    assert first.status == "pending"
    sim.advance(seconds=11)
    assert [c.args[0] for c in sim.calls][1:] == ["first", {}]
    node.refresh_from_db()
    assert statuses(node) == ["complete", "complete"]
    assert node.status == "complete"


def test_workflows_of_one_subject_with_different_names_do_not_wait_for_each_other(sim):
    a = signal(workflows.done.s(), subject="camera", name="a", delay=100)
    b = signal(workflows.done.s(), subject="camera", name="b")
    sim.run()
    b.refresh_from_db()
    assert b.status == "complete"
    assert a.workflow_id != b.workflow_id
    assert Workflow.objects.count() == 2

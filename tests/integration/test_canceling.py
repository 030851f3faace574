"""Nodes that are canceled, reset, or cleared out of the way."""

from __future__ import annotations

import pytest

from backbeat_celery import current_node, signal
from backbeat_celery.exceptions import InvalidTransition
from backbeat_celery.models import Node, Transition
from tests import workflows
from tests.races.worker import succeed, take
from tests.stages import FAR
from tests.stateful import invariants

PARALLEL = {"mode": "non_blocking"}
FORGET = {"mode": "fire_and_forget"}
LATER = {"delay": FAR}


@pytest.fixture(autouse=True)
def sound(sim):
    yield
    assert not invariants.broken_now()


def fresh(*nodes):
    for node in nodes:
        node.refresh_from_db()
    return [node.status for node in nodes]


@pytest.fixture
def family(run_tree):
    def make(*children):
        node = run_tree(*children)
        return node, list(node.children.order_by("seq"))

    return make


# Cancel -----------------------------------------------------------------------------------


def test_the_whole_subtree_is_canceled_and_what_is_finished_stays(sim, family):
    deep = {"spawn": [{"shape": {"spawn": [LATER, FORGET]}, **PARALLEL}, PARALLEL]}
    top, (child,) = family({"shape": deep})
    child.cancel(reason="not wanted")
    left, done = child.children.order_by("seq")
    assert (left.status, done.status) == ("canceled", "complete")
    assert {node.status for node in left.children.all()} == {"canceled"}
    sim.run()
    assert fresh(top) == ["complete"]


def test_fire_and_forget_below_a_finished_node_is_found(sim, family):
    leaves = {"shape": {"spawn": [{**FORGET, **LATER}]}}
    top, (finished, open_) = family({**leaves, **PARALLEL}, {**LATER, **PARALLEL})
    (left,) = finished.children.all()
    assert fresh(finished, left) == ["complete", "queued"]
    top.cancel()
    assert fresh(finished, left, open_) == ["complete", "canceled", "canceled"]


def test_the_next_sibling_starts(sim, family):
    _, (first, second) = family(LATER, {})
    first.cancel()
    sim.run()
    assert fresh(second) == ["complete"]


def test_canceling_a_node_in_the_middle_of_the_line_opens_nothing_early(sim, family):
    parent, (first, second, third) = family(LATER, {}, {})
    second.cancel()
    sim.run()
    assert fresh(first, second, third) == ["queued", "canceled", "ready"]
    first.cancel()
    sim.run()
    assert fresh(third, parent) == ["complete", "complete"]


def test_a_canceled_sibling_holds_no_barrier(sim, family):
    parent, (slow, barrier) = family({**PARALLEL, **LATER}, {"barrier": True})
    slow.cancel()
    sim.run()
    assert fresh(barrier, parent) == ["complete", "complete"]


def test_the_barrier_behind_a_canceled_barrier_still_opens(sim, family):
    barrier = {"barrier": True}
    parent, (slow, one, other, two) = family({**PARALLEL, **LATER}, barrier, PARALLEL, barrier)
    one.cancel()
    assert fresh(two) == ["ready"]
    sim.advance(seconds=FAR + 60)
    assert fresh(slow, other, two, parent) == ["complete"] * 4


def test_canceling_the_last_open_child_completes_the_parent(sim, family):
    parent, (child,) = family(LATER)
    child.cancel()
    sim.run()
    assert fresh(parent) == ["complete"]


def test_canceling_a_signal_starts_the_next(sim):
    first = signal(workflows.done.s(), subject="camera", delay=FAR)
    second = signal(workflows.done.s(), subject="camera")
    first.cancel()
    sim.run()
    assert fresh(first, second) == ["canceled", "complete"]


def test_a_running_handlers_report_is_discarded(sim, script):
    def work(task):
        Node.objects.get(pk=current_node().id).cancel(by="olga")
        wanted.append(current_node().is_wanted())
        current_node().spawn(workflows.done.s())

    wanted: list[bool] = []
    script(work)
    node = signal(workflows.scripted.s(), subject="camera")
    behind = signal(workflows.done.s(), subject="camera", name="tests.workflows.scripted")
    sim.run()
    assert fresh(node, behind) == ["canceled", "complete"]
    assert wanted == [False]
    assert not node.children.exists()
    assert [attempt.outcome for attempt in node.attempts] == ["canceled"]
    steps = [step.to_status for step in node.history]
    assert steps == ["queued", "running", "canceled"]


def test_canceling_the_only_child_of_a_running_parent_spares_the_parent(sim, script):
    def work(task):
        child = Node.objects.get(pk=current_node().id).add_child(workflows.done.s())
        child.cancel()

    script(work)
    node = signal(workflows.scripted.s(), subject="camera")
    sim.run()
    assert fresh(node) == ["complete"]


def test_a_fire_and_forget_child_of_a_complete_parent(sim, family):
    parent, (child,) = family({**FORGET, **LATER})
    child.cancel()
    sim.run()
    assert fresh(parent, child) == ["complete", "canceled"]


def test_a_canceled_signal_keeps_its_key(sim):
    node = signal(workflows.done.s(), subject="camera", key="once", delay=FAR)
    node.cancel()
    assert signal(workflows.done.s(), subject="camera", key="once").pk == node.pk


def test_a_link_to_a_canceled_signal_counts_as_nothing(sim, family):
    node, (child,) = family({"delay": 30})
    far = signal(workflows.done.s(), subject="lens", link=node, delay=FAR)
    sim.advance(minutes=1)
    assert fresh(node, child) == ["waiting", "complete"]
    far.cancel()
    sim.run()
    assert fresh(node) == ["complete"]


def test_two_hundred_children_are_canceled_in_few_statements(
    sim, script, django_assert_max_num_queries
):
    script(
        lambda task: (
            current_node().spawn_many([workflows.done.s()] * 200, mode="non_blocking", delay=FAR)
            and None
        )
    )
    node = signal(workflows.scripted.s(), subject="camera")
    sim.run()
    with django_assert_max_num_queries(30):
        node.cancel()
    assert node.children.filter(status="canceled").count() == 200
    assert Transition.objects.filter(to_status="canceled").count() == 201


# Reset ------------------------------------------------------------------------------------


def test_reset_completes_a_node_that_waited_for_its_children(sim, family):
    node, children = family(LATER, {"barrier": True})
    node.reset(reason="enough")
    sim.run()
    assert fresh(node, *children) == ["complete", "canceled", "canceled"]
    assert node.outcome == "succeeded"


def test_reset_keeps_links(sim, family):
    node, _ = family(LATER)
    far = signal(workflows.done.s(), subject="lens", link=node, delay=60)
    node.reset()
    sim.run()
    assert fresh(node) == ["waiting"]
    sim.advance(minutes=2)
    assert fresh(node, far) == ["complete", "complete"]


def test_a_running_node_goes_on_after_its_reset(sim, script):
    def work(task):
        me = Node.objects.get(pk=current_node().id)
        added.append(me.add_child(workflows.done.s("dropped"), key="k"))
        me.reset()
        current_node().spawn(workflows.done.s("kept"), key="k")
        return "done"

    added: list[Node] = []
    script(work)
    node = signal(workflows.scripted.s(), subject="camera")
    sim.run()
    assert fresh(node, *added) == ["complete", "canceled"]
    assert [child.result for child in node.children.order_by("seq")] == [None, "kept"]


def test_a_node_that_was_reset_takes_new_children(sim, family):
    node, _ = family(LATER, {"barrier": True})
    extra = node.add_child(workflows.done.s(), delay=60)
    node.reset()
    assert fresh(extra) == ["canceled"]


# What stands before -----------------------------------------------------------------------


def test_earlier_signals_are_cleared_and_the_node_starts(sim):
    stuck = [signal(workflows.done.s(), subject="camera", delay=FAR) for _ in range(3)]
    node = signal(workflows.done.s(), subject="camera")
    after = signal(workflows.done.s(), subject="camera", delay=60)
    node.cancel_previous(by="olga")
    sim.run()
    assert fresh(*stuck, node, after) == ["canceled"] * 3 + ["complete", "queued"]
    # Signals in the middle of the line never had a turn.
    steps = Transition.objects.filter(node__in=stuck[1:]).values_list("to_status", flat=True)
    assert set(steps) == {"canceled"}


def test_ancestors_are_spared(sim, family):
    top, (before, inner, behind) = family(
        {**PARALLEL, **LATER}, {"shape": {"spawn": [LATER, {}]}}, {}
    )
    waiting, node = inner.children.order_by("seq")
    node.cancel_previous()
    sim.run()
    assert fresh(before, waiting) == ["canceled", "canceled"]
    assert fresh(top, inner, node, behind) == ["complete"] * 4


def test_what_a_finished_signal_left_running_is_cleared(sim):
    first = signal(workflows.tree.s({"spawn": [{**FORGET, **LATER}]}), subject="camera", name="w")
    sim.run()
    second = signal(workflows.done.s(), subject="camera", name="w", delay=FAR)
    (left,) = first.children.all()
    assert fresh(first, left) == ["complete", "queued"]
    second.cancel_previous()
    assert fresh(first, left, second) == ["complete", "canceled", "queued"]


def test_nothing_stands_before_the_first(sim):
    node = signal(workflows.done.s(), subject="camera", delay=FAR)
    node.cancel_previous()
    assert fresh(node) == ["queued"]


# The whole workflow -----------------------------------------------------------------------


def test_a_canceled_workflow_stays_open(sim, family):
    node, (waiting, forgotten) = family({**PARALLEL, **LATER}, {**FORGET, **LATER})
    behind = signal(workflows.done.s(), subject="camera", name="tests.workflows.tree")
    node.workflow.cancel(by="olga", reason="all wrong")
    assert fresh(node, waiting, forgotten, behind) == ["canceled"] * 4
    assert fresh(node.workflow.root) == ["waiting"]
    after = signal(workflows.done.s(), subject="camera", name="tests.workflows.tree")
    sim.run()
    assert after.workflow_id == node.workflow_id
    assert fresh(after) == ["complete"]


def test_a_canceled_closed_workflow_is_finished(sim, family):
    node, _ = family(LATER)
    node.workflow.close()
    node.workflow.cancel()
    sim.run()
    assert fresh(node.workflow.root) == ["complete"]
    node.workflow.refresh_from_db()
    assert node.workflow.finished_at is not None


def test_canceling_twice(sim, family):
    node, _ = family(LATER)
    node.cancel()
    node.workflow.cancel()
    with pytest.raises(InvalidTransition, match="It is finished"):
        node.cancel()


def test_a_claim_of_a_canceled_node_is_refused(sim):
    node = signal(workflows.done.s(), subject="camera")
    node.cancel()
    assert take(node, attempt=1) is None


def test_a_report_after_the_cancel_changes_nothing(sim):
    from backbeat_celery.exceptions import StaleAttempt

    node = signal(workflows.done.s(), subject="camera")
    mine = take(node)
    node.cancel()
    with pytest.raises(StaleAttempt):
        succeed(mine, {})
    assert fresh(node) == ["canceled"]
    assert not node.children.exists()

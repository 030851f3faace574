"""What a verb would touch is told before it does, and is what it then touches."""

from __future__ import annotations

import pytest
from django.db import transaction

from backbeat_celery import current_node, signal
from backbeat_celery.engine.order.links import link
from backbeat_celery.models import Node
from backbeat_celery.verbs import impact
from tests import workflows
from tests.verbs import ONE_NODE


@pytest.fixture
def failed(sim, script):
    """A failed node with an unfinished child of its own, and a tree behind it."""

    def work(task):
        current_node().spawn(workflows.fatal.s())
        current_node().spawn(workflows.done.s("behind"))
        current_node().spawn(workflows.done.s("beside"), mode="non_blocking")

    script(work)
    signal(workflows.scripted.s(), subject="camera", name="order")
    signal(workflows.done.s("later signal"), subject="camera", name="order")
    sim.run()
    node = Node.objects.get(name="tests.workflows.fatal")
    node.add_child(workflows.done.s("added"))
    behind = Node.objects.get(args=["behind"])
    behind.add_child(workflows.done.s("below"))
    return node


@pytest.fixture
def part(sim, script):
    """A failed part of several, a barrier behind them, and a tree that waits for them all."""

    def work(task):
        for task in (workflows.done.s(1), workflows.fatal.s(), workflows.done.s(2)):
            current_node().spawn(task, mode="non_blocking")
        current_node().spawn(workflows.done.s("barrier"), barrier=True)
        current_node().spawn(workflows.done.s("behind"), mode="non_blocking")
        current_node().spawn(workflows.done.s("last"))

    script(work)
    signal(workflows.scripted.s(), subject="camera", name="order")
    signal(workflows.done.s("later signal"), subject="camera", name="order")
    sim.run()
    return Node.objects.get(name="tests.workflows.fatal")


@pytest.fixture
def linked(sim, script):
    """A failed signal, and one of another workflow that waits by a link for it alone."""
    held = [signal(workflows.scripted.s(), subject=name) for name in ("lens", "film", "bag")]
    for node in held:
        node.workflow.signal(workflows.done.s("behind a link"))
    fatal = signal(workflows.fatal.s(), subject="camera", link=held[0])
    signal(workflows.done.s("not yet"), subject="strap", delay=3600, link=held[1])
    for one, other in ((fatal, held[1]), (held[0], held[2])):
        with transaction.atomic():
            link(other.pk, one, "default")
    script(lambda task: None)
    sim.run()
    return Node.objects.get(pk=fatal.pk)


def states():
    return dict(Node.objects.values_list("pk", "status"))


@pytest.mark.parametrize("shape", ["failed", "part", "linked"])
@pytest.mark.parametrize("verb", [verb for verb in ONE_NODE if verb != "retry"])
def test_preview_names_what_the_verb_starts_and_completes(request, sim, verb, shape):
    node = request.getfixturevalue(shape)
    ahead = impact.continued_nodes(verb, node)
    before = states()
    getattr(node, verb)()
    sim._commit()  # and call no handler
    after = states()
    changed = {pk: status for pk, status in after.items() if before[pk] != status}
    began = {pk for pk, status in changed.items() if status in {"queued", "running"}}
    assert {node.pk for node in ahead.started.nodes} == began
    done = {pk for pk, status in changed.items() if status == "complete"} - {node.pk}
    assert {node.pk for node in ahead.completed.nodes} == done


def test_preview_of_a_failed_part_before_a_barrier(part):
    assert [node.args for node in impact.canceled_nodes("shutdown", part).nodes] == [
        ["barrier"],
        ["behind"],
        ["last"],
    ]
    for verb in ("resolve", "cancel"):
        ahead = impact.continued_nodes(verb, part)
        assert [node.args for node in ahead.started.nodes] == [["barrier"]]
        assert ahead.completed.count == 0
    ahead = impact.continued_nodes("shutdown", part)
    assert [node.args for node in ahead.started.nodes] == [["later signal"]]
    assert [node.name for node in ahead.completed.nodes] == ["tests.workflows.scripted"]


def test_preview_of_a_signal_that_other_workflows_wait_for(linked):
    for verb, target in (("cancel", linked), ("cancel_workflow", linked.workflow)):
        ahead = impact.continued_nodes(verb, target)
        assert [node.workflow.subject for node in ahead.completed.nodes] == ["lens", "bag"]
        assert [node.args for node in ahead.started.nodes] == [["behind a link"]] * 2


def test_explanations_say_what_each_verb_starts_and_cancels(part):
    barrier = Node.objects.get(args=["barrier"])
    for node in (part, barrier):
        assert node.explain().endswith(
            f"retry() it, or resolve() or cancel() it to start {barrier.name} {barrier.pk}, or "
            f"shutdown() it to cancel {barrier.name} {barrier.pk} and 2 more."
        )


def test_what_follows_is_read_in_few_statements(part, django_assert_max_num_queries):
    for verb in ("resolve", "shutdown", "cancel"):
        with django_assert_max_num_queries(16):
            impact.continued_nodes(verb, part)


def canceled_since(before):
    return set(Node.objects.filter(status="canceled").exclude(pk__in=before))


@pytest.mark.parametrize("verb", ONE_NODE)
def test_preview_names_what_the_verb_cancels(failed, verb):
    told = {node.pk for node in impact.canceled_nodes(verb, failed).nodes}
    before = list(Node.objects.filter(status="canceled").values_list("pk", flat=True))
    getattr(failed, verb)()
    touched = {node.pk for node in canceled_since(before)} - {failed.pk}
    assert told == touched
    assert bool(told) == (verb != "resolve")


def test_preview_of_a_whole_workflow(failed):
    told = impact.canceled_nodes("cancel_workflow", failed.workflow)
    failed.workflow.cancel()
    assert {node.pk for node in told.nodes} == {node.pk for node in canceled_since([])}


def test_preview_of_a_resume(sim):
    node = signal(workflows.done.s(), subject="camera")
    node.workflow.pause()
    sim.run()
    assert impact.resumed_nodes(node.workflow).nodes == [node]


def test_preview_is_cut_where_there_is_too_much(failed, monkeypatch):
    monkeypatch.setattr(impact, "MOST", 2)
    told = impact.canceled_nodes("cancel_workflow", failed.workflow)
    assert (told.count, told.is_more) == (2, True)


def test_non_blocking_node_holds_nothing_back(sim, script):
    def work(task):
        current_node().spawn(workflows.fatal.s(), mode="non_blocking")
        current_node().spawn(workflows.flaky.s(9))

    script(work)
    signal(workflows.scripted.s(), subject="camera")
    sim.run()
    node = Node.objects.get(name="tests.workflows.fatal")
    assert impact.canceled_nodes("shutdown", node).count == 0

"""What a verb would touch is told before it does, and is what it then touches."""

from __future__ import annotations

import pytest

from backbeat_celery import current_node, previews, signal
from backbeat_celery.models import Node
from tests import workflows


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


def canceled_since(before):
    return set(Node.objects.filter(status="canceled").exclude(pk__in=before))


@pytest.mark.parametrize("verb", ["retry", "shutdown", "cancel", "reset", "resolve"])
def test_preview_names_what_the_verb_cancels(failed, verb):
    told = {node.pk for node in previews.canceled_by(verb, failed).nodes}
    before = list(Node.objects.filter(status="canceled").values_list("pk", flat=True))
    getattr(failed, verb)()
    touched = {node.pk for node in canceled_since(before)} - {failed.pk}
    assert told == touched
    assert bool(told) == (verb != "resolve")


def test_preview_of_a_whole_workflow(failed):
    told = previews.canceled_by("cancel_workflow", failed.workflow)
    failed.workflow.cancel()
    assert {node.pk for node in told.nodes} == {node.pk for node in canceled_since([])}


def test_preview_of_a_resume(sim):
    node = signal(workflows.done.s(), subject="camera")
    node.workflow.pause()
    sim.run()
    assert previews.started_by_resume(node.workflow).nodes == [node]


def test_preview_is_cut_where_there_is_too_much(failed, monkeypatch):
    monkeypatch.setattr(previews, "MOST", 2)
    told = previews.canceled_by("cancel_workflow", failed.workflow)
    assert (told.count, told.is_more) == (2, True)


def test_non_blocking_node_holds_nothing_back(sim, script):
    def work(task):
        current_node().spawn(workflows.fatal.s(), mode="non_blocking")
        current_node().spawn(workflows.flaky.s(9))

    script(work)
    signal(workflows.scripted.s(), subject="camera")
    sim.run()
    node = Node.objects.get(name="tests.workflows.fatal")
    assert previews.canceled_by("shutdown", node).count == 0

"""Deleting a run, also while it is under way."""

from __future__ import annotations

import pytest

from backbeat_celery import complete_by_token, current_node, signal
from backbeat_celery.exceptions import InvalidTransition, StaleAttempt, WorkflowClosed
from backbeat_celery.models import Attempt, Link, Node, Transition, Workflow
from backbeat_celery.runtime import failpoints
from backbeat_celery.states import Status
from tests import workflows
from tests.stages import staged
from tests.stateful import invariants
from tests.verbs import ALLOWED


def left():
    return [model.objects.count() for model in (Workflow, Node, Transition, Attempt, Link)]


@pytest.mark.parametrize("status", Status)
def test_nothing_is_left_of_a_run_with_a_node_of_each_status(sim, status):
    workflow = staged(sim, status).workflow
    total, tables = workflow.delete()
    assert left() == [0, 0, 0, 0, 0]
    assert total == sum(tables.values())
    assert tables["backbeat_celery.Workflow"] == 1
    sim.advance(hours=1)
    assert left() == [0, 0, 0, 0, 0]


def test_other_runs_are_spared(sim):
    gone = signal(workflows.done.s(), subject="camera", delay=60)
    kept = signal(workflows.done.s(), subject="lens", delay=60)
    gone.workflow.delete()
    sim.advance(minutes=2)
    kept.refresh_from_db()
    assert kept.status == "complete"
    assert not invariants.broken_now()


def test_the_report_of_a_handler_whose_run_is_gone_is_discarded(sim, script):
    def work(task):
        Workflow.objects.get(pk=current_node().workflow_id).delete()
        current_node().spawn(workflows.done.s())

    script(work)
    signal(workflows.scripted.s(), subject="camera")
    sim.run()
    sim.advance(hours=1)
    assert left() == [0, 0, 0, 0, 0]


def test_a_node_that_waited_for_the_run_goes_on(sim, run_tree):
    node = run_tree({"delay": 30})
    far = signal(workflows.done.s(), subject="lens", link=node, delay=7200)
    sim.advance(minutes=1)
    far.workflow.delete()
    sim.run()
    node.refresh_from_db()
    assert node.status == "complete"
    assert Link.objects.count() == 0


def test_the_next_signal_opens_a_run_anew(sim):
    signal(workflows.done.s(), subject="camera", delay=60).workflow.delete()
    assert signal(workflows.done.s(), subject="camera").workflow.run == 1


VERBS = {
    **dict.fromkeys(ALLOWED, ()),
    "complete": (),
    "fail": ("no",),
    "add_child": (workflows.done.s(),),
}


@pytest.mark.parametrize(("verb", "arguments"), VERBS.items(), ids=VERBS)
def test_a_verb_on_a_node_that_is_gone_says_so(sim, verb, arguments):
    node = signal(workflows.awaiting.s(), subject="camera")
    Workflow.objects.get(pk=node.workflow_id).delete()
    with pytest.raises(InvalidTransition, match="is deleted") as refusal:
        getattr(node, verb)(*arguments)
    assert (refusal.value.current, refusal.value.node_id) == ("deleted", node.pk)


@pytest.mark.parametrize("verb", ["pause", "resume", "close", "cancel"])
def test_a_verb_on_a_run_that_is_gone_says_so(sim, verb):
    workflow = signal(workflows.done.s(), subject="camera").workflow
    Workflow.objects.get(pk=workflow.pk).delete()
    with pytest.raises(InvalidTransition, match="is deleted"):
        getattr(workflow, verb)()
    with pytest.raises(WorkflowClosed, match="was deleted"):
        workflow.signal(workflows.done.s())


def test_an_explanation_of_what_is_gone_says_so(sim):
    node = signal(workflows.done.s(), subject="camera", name="w")
    workflow = Workflow.objects.get(pk=node.workflow_id)
    Workflow.objects.get(pk=workflow.pk).delete()
    why = "is gone: it was deleted or purged."
    assert node.explain() == f"tests.workflows.done {why}"
    assert workflow.explain() == f"{workflow} {why}"


def test_what_is_deleted_twice_is_deleted(sim):
    workflow = signal(workflows.done.s(), subject="camera").workflow
    again = Workflow.objects.get(pk=workflow.pk)
    workflow.delete()
    assert again.delete() == (0, {})


def test_a_report_by_token_of_a_run_that_is_gone_is_stale(sim, script):
    script(lambda _: tokens.append(current_node().completion_token()))
    tokens = []
    node = signal(workflows.scripted_awaiting.s(), subject="camera")
    sim.run()
    node.workflow.delete()
    with pytest.raises(StaleAttempt, match="deleted"):
        complete_by_token(tokens[0])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("verb", ["cancel", "cancel_previous", "reset"])
def test_a_verb_that_was_done_before_the_run_was_deleted_is_done(transactional_db, verb):
    """The commit is followed by a look at the row, which somebody may have deleted."""
    node = signal(workflows.done.s(), subject="camera", delay=60)

    def delete(name):
        if name == "verb_done":
            Workflow.objects.get(pk=node.workflow_id).delete()

    with failpoints.watched(delete):
        getattr(node, verb)()
    assert not Node.objects.exists()

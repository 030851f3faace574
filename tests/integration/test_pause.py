"""Pause: nothing starts, what runs may finish, what fell due meanwhile runs on resume."""

from __future__ import annotations

import pytest

from backbeat_celery import current_node, signal
from backbeat_celery.exceptions import InvalidTransition
from backbeat_celery.models import Workflow
from tests import workflows


def pause(sim, **which):
    """Pause every workflow that fits."""
    for workflow in Workflow.objects.filter(**which):
        workflow.pause(by="olga", reason="the gateway is down")


def resume(sim):
    """Resume everything, and let what is due run; no sweeper helps."""
    for workflow in Workflow.objects.all():
        workflow.resume(by="olga")
    sim.run()


@pytest.fixture
def node(sim):
    return signal(workflows.done.s(1), subject="camera")


def test_a_due_node_of_a_paused_workflow_becomes_paused(sim, node):
    pause(sim)
    sim.run()
    node.refresh_from_db()
    assert (node.status, node.attempt, sim.calls) == ("paused", 0, [])
    assert node.history[-1].reason == "due while the workflow is paused"


def test_a_paused_node_runs_on_resume(sim, node):
    pause(sim)
    sim.advance(hours=1)
    resume(sim)
    node.refresh_from_db()
    assert (node.status, node.result) == ("complete", 1)
    assert [t.to_status for t in node.history] == [
        *["queued", "paused", "queued", "running", "complete"]
    ]


def test_the_message_after_a_resume_may_be_lost(sim, node):
    pause(sim)
    sim.run()
    node.workflow.resume()
    sim.lose_messages()
    sim.advance(minutes=1)
    node.refresh_from_db()
    assert node.status == "complete"


def test_a_node_without_a_message_becomes_paused_by_the_sweep(sim, node):
    sim.lose_messages()
    pause(sim)
    sim.advance(minutes=1)
    node.refresh_from_db()
    assert node.status == "paused"


@pytest.mark.parametrize("delay", [30, 600])
def test_a_future_node_stays_queued_until_it_is_due(sim, delay):
    node = signal(workflows.done.s(), subject="camera", delay=delay)
    pause(sim)
    sim.advance(seconds=delay - 10)
    node.refresh_from_db()
    assert node.status == "queued"
    sim.advance(seconds=60)
    node.refresh_from_db()
    assert node.status == "paused"
    resume(sim)
    node.refresh_from_db()
    assert node.status == "complete"


def test_a_retry_becomes_paused_when_it_is_due(sim, script):
    script(lambda task: task.request.retries or 1 / 0)
    node = signal(workflows.scripted.s(), subject="camera")
    sim.run()
    pause(sim)
    sim.advance(seconds=5)
    node.refresh_from_db()
    assert node.status == "retrying"
    sim.advance(seconds=40)
    node.refresh_from_db()
    assert node.status == "paused"
    resume(sim)
    node.refresh_from_db()
    assert (node.status, node.result, node.retries) == ("complete", 1, 1)


def test_the_report_of_a_running_handler_is_accepted(sim, script):
    def work(task):
        current_node().spawn(workflows.done.s())
        pause(sim)
        return "done"

    script(work)
    node = signal(workflows.scripted.s(), subject="camera")
    sim.run()
    node.refresh_from_db()
    assert (node.status, node.result) == ("waiting", "done")
    assert node.children.get().status == "paused"
    resume(sim)
    node.refresh_from_db()
    assert node.status == "complete"


def test_the_next_stage_of_a_paused_workflow_does_not_start(sim, script):
    script(lambda task: pause(sim))
    signal(workflows.scripted.s(), subject="camera", name="w")
    behind = signal(workflows.done.s(), subject="camera", name="w")
    sim.advance(minutes=1)
    behind.refresh_from_db()
    assert behind.status == "paused"


def test_a_flag_does_not_pass_in_a_paused_workflow(sim, run_tree, statuses):
    node = run_tree({"flag": "payday", "delay": 100}, {"flag": "after"})
    pause(sim)
    sim.advance(seconds=200)
    assert statuses(node) == ["paused", "ready"]
    resume(sim)
    assert statuses(node) == ["complete", "complete"]
    node.refresh_from_db()
    assert node.status == "complete"


def test_flags_registered_during_a_pause_wait(sim, script, statuses):
    def work(task):
        pause(sim)
        current_node().flag("a")
        current_node().flag("b")

    script(work)
    node = signal(workflows.scripted.s(), subject="camera")
    sim.advance(minutes=1)
    assert statuses(node) == ["paused", "ready"]
    resume(sim)
    sim.advance(minutes=1)
    assert statuses(node) == ["complete", "complete"]


def test_a_signal_to_a_paused_workflow_is_taken_and_waits(sim):
    Workflow.objects.for_subject("camera", workflows.done.name)
    pause(sim)
    node = signal(workflows.done.s(), subject="camera")
    sim.run()
    node.refresh_from_db()
    assert node.status == "paused"


def test_another_workflow_is_not_paused(sim, node):
    other = signal(workflows.done.s(), subject="lens")
    pause(sim, subject="camera")
    sim.run()
    other.refresh_from_db()
    assert other.status == "complete"


def test_a_lost_attempt_of_a_paused_workflow_is_not_started_again(sim, node):
    sim.kill_next("before_handler")
    sim.run()
    pause(sim)
    sim.advance(minutes=2)
    node.refresh_from_db()
    assert (node.status, node.attempt) == ("paused", 1)
    resume(sim)
    node.refresh_from_db()
    assert (node.status, node.attempt) == ("complete", 2)


def test_who_paused_and_why_is_kept_until_the_resume(sim, node):
    pause(sim)
    workflow = Workflow.objects.get()
    assert (workflow.paused_by, workflow.pause_reason) == ("olga", "the gateway is down")
    assert workflow.paused_at == sim.now
    resume(sim)
    workflow.refresh_from_db()
    assert (workflow.paused_at, workflow.paused_by, workflow.pause_reason) == (None, "", "")


def test_the_history_names_who_resumed(sim, node):
    pause(sim)
    sim.run()
    resume(sim)
    (step,) = [step for step in node.history if step.from_status == "paused"]
    assert (step.actor, step.reason) == ("olga", "resumed")


def test_pausing_twice_keeps_the_first(sim, node):
    pause(sim)
    node.workflow.pause(by="otto")
    assert Workflow.objects.get().paused_by == "olga"


def test_resuming_twice_delivers_once(sim, node):
    pause(sim)
    sim.run()
    node.workflow.resume()
    node.workflow.resume()
    assert sim.in_flight == 1


def test_a_node_left_paused_in_a_workflow_that_goes_on_is_picked_up(sim, node):
    """As after a crash of a version that could leave one; the sweeper does it, too."""
    pause(sim)
    sim.run()
    Workflow.objects.update(paused_at=None)
    node.workflow.resume()
    sim.run()
    node.refresh_from_db()
    assert node.status == "complete"


def test_the_sweeper_queues_what_was_left_paused(sim, node):
    pause(sim)
    sim.run()
    Workflow.objects.update(paused_at=None)
    sim.sweep()
    sim.run()
    node.refresh_from_db()
    assert node.status == "complete"


def test_a_finished_run_cannot_be_paused(sim, node):
    sim.run()
    node.workflow.close()
    sim.run()
    with pytest.raises(InvalidTransition, match="finished"):
        node.workflow.pause()


def test_two_hundred_paused_nodes_are_resumed_in_few_statements(
    sim, script, django_assert_max_num_queries
):
    script(
        lambda task: (
            current_node().spawn_many([workflows.done.s()] * 200, mode="non_blocking") and None
        )
    )
    node = signal(workflows.scripted.s(), subject="camera")
    sim.step()
    pause(sim)
    sim.run()
    assert node.children.filter(status="paused").count() == 200
    with django_assert_max_num_queries(20):
        node.workflow.resume()
    sim.run()
    assert node.children.filter(status="complete").count() == 200

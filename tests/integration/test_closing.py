"""Closing a run, and opening the next one."""

from __future__ import annotations

import pytest

from backbeat_celery import signal
from backbeat_celery.exceptions import WorkflowClosed
from backbeat_celery.models import Workflow
from tests import workflows


@pytest.fixture
def node(sim):
    return signal(workflows.done.s(), subject="camera", delay=60)


def again():
    return signal(workflows.done.s(), subject="camera")


def fresh(workflow):
    workflow.refresh_from_db()
    workflow.root.refresh_from_db()
    return workflow.root.status


def test_a_closed_run_takes_no_more_but_goes_on(sim, node):
    node.workflow.close(by="olga", reason="sold")
    with pytest.raises(WorkflowClosed):
        again()
    with pytest.raises(WorkflowClosed):
        Workflow.objects.for_subject("camera", node.workflow.name)
    with pytest.raises(WorkflowClosed):
        node.workflow.signal(workflows.done.s())
    assert fresh(node.workflow) == "waiting"
    sim.advance(minutes=2)
    assert fresh(node.workflow) == "complete"
    assert node.workflow.finished_at <= sim.now


def test_the_next_run_opens_once_it_is_finished(sim, node):
    node.workflow.close()
    sim.advance(minutes=2)
    other = again()
    assert (other.workflow.run, other.workflow.closed_at) == (2, None)
    with pytest.raises(WorkflowClosed):
        node.workflow.signal(workflows.done.s())


def test_who_closed_it_is_kept(node):
    node.workflow.close(by="olga", reason="sold")
    node.workflow.close(by="otto", reason="sold again")
    workflow = Workflow.objects.get()
    assert (workflow.closed_by, workflow.close_reason) == ("olga", "sold")


def test_an_empty_run_is_finished_at_once(sim):
    workflow = Workflow.objects.for_subject("camera", "sale")
    workflow.close()
    sim.run()
    assert fresh(workflow) == "complete"


def test_a_failed_node_keeps_the_run_unfinished(sim):
    node = signal(workflows.fatal.s(), subject="camera")
    sim.run()
    node.workflow.close()
    sim.advance(days=1)
    assert fresh(node.workflow) == "waiting"
    with pytest.raises(WorkflowClosed):
        signal(workflows.done.s(), subject="camera", name=node.workflow.name)
    node.refresh_from_db()
    node.resolve()
    sim.run()
    assert fresh(node.workflow) == "complete"


def test_nobody_waits_for_fire_and_forget(sim):
    node = signal(workflows.done.s(), subject="camera", mode="fire_and_forget", delay=3600)
    node.workflow.close()
    sim.run()
    assert fresh(node.workflow) == "complete"
    sim.advance(hours=2)
    node.refresh_from_db()
    assert node.status == "complete"


def test_a_crash_after_the_close_is_mended(sim, node):
    sim.advance(minutes=2)
    Workflow.objects.update(closed_at=sim.now)  # committed, and the process died
    sim.advance(seconds=10)
    assert fresh(node.workflow) == "complete"

"""Closing a run, and opening the next one."""

from __future__ import annotations

from uuid import UUID

import pytest
from django.db import transaction

from backbeat_celery import signal, signal_many
from backbeat_celery.exceptions import BadInput, WorkflowClosed
from backbeat_celery.models import Node, Workflow
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


# A signal that closes ---------------------------------------------------------------------


def closed(node):
    node.workflow.refresh_from_db()
    return node.workflow.closed_at is not None


def test_a_signal_that_closes_is_the_last_of_its_run(sim):
    first = signal(workflows.done.s(1), subject="camera", name="sale", delay=60)
    last = signal(workflows.done.s(2), subject="camera", name="sale", close=True)
    assert (last.workflow_id, last.status) == (first.workflow_id, "ready")
    assert closed(last)
    with pytest.raises(WorkflowClosed):
        signal(workflows.done.s(3), subject="camera", name="sale")
    assert fresh(last.workflow) == "waiting"
    sim.advance(minutes=2)
    assert [call.args for call in sim.calls] == [[1], [2]]
    assert fresh(last.workflow) == "complete"
    other = signal(workflows.done.s(4), subject="camera", name="sale")
    assert (other.workflow.run, closed(other)) == (2, False)


def test_the_run_is_finished_when_all_below_the_signal_is(sim, run_tree):
    node = run_tree({"delay": 600, "mode": "non_blocking"}, close=True)
    assert (node.status, fresh(node.workflow)) == ("waiting", "waiting")
    sim.advance(minutes=11)
    assert fresh(node.workflow) == "complete"


def test_a_run_of_its_own_may_be_closed_as_well(sim):
    node = signal(workflows.done.s(), subject="camera")
    workflow = node.workflow
    last = workflow.signal(workflows.done.s(), close=True)
    assert workflow.closed_at is not None
    assert closed(last)
    with pytest.raises(WorkflowClosed):
        workflow.signal(workflows.done.s(), close=True)
    sim.run()
    assert fresh(workflow) == "complete"


def test_many_signals_may_close_many_runs(sim):
    """A run is closed after the last of its signals, whichever of them says so."""
    items = [("a", True), ("b", False), ("a", True), ("c", False), ("c", True), ("a", False)]
    nodes = signal_many((workflows.done.s(s), {"subject": s, "close": c}) for s, c in items)
    assert len({node.pk for node in nodes}) == len(items)
    assert [w.closed_at is not None for w in Workflow.objects.order_by("subject")] == [
        True,
        False,
        True,
    ]
    sim.run()
    assert Node.objects.filter(status="complete", parent__isnull=False).count() == len(items)
    assert Workflow.objects.filter(finished_at__isnull=False).count() == 2


def test_nothing_is_closed_if_a_signal_of_many_is_refused(sim, node):
    node.workflow.close()
    options = [{"subject": "lens", "close": True}, {"subject": "camera"}]
    with pytest.raises(WorkflowClosed):
        signal_many((workflows.done.s(), o) for o in options)
    assert Workflow.objects.count() == 1


@pytest.mark.parametrize("mode", ["blocking", "non_blocking"])
def test_a_failed_signal_that_closes_keeps_its_run_unfinished(sim, mode):
    node = signal(workflows.fatal.s(), subject="camera", mode=mode, close=True)
    sim.advance(days=1)
    assert fresh(node.workflow) == "waiting"
    node.refresh_from_db()
    node.resolve()
    sim.run()
    assert fresh(node.workflow) == "complete"


def test_nobody_waits_for_a_signal_that_is_forgotten(sim):
    node = signal(
        workflows.done.s(), subject="camera", mode="fire_and_forget", delay=3600, close=True
    )
    sim.run()
    assert fresh(node.workflow) == "complete"
    sim.advance(hours=2)
    node.refresh_from_db()
    assert node.status == "complete"


@pytest.mark.parametrize("close", ["yes", 1, None])
def test_close_is_true_or_false(sim, node, close):
    with pytest.raises(BadInput, match="close"):
        signal(workflows.done.s(), subject="camera", close=close)
    with pytest.raises(BadInput, match="close"):
        node.workflow.signal(workflows.done.s(), close=close)
    assert not closed(node)


def test_a_rolled_back_signal_closes_nothing(sim, node):
    with transaction.atomic():
        signal(workflows.done.s(), subject="camera", close=True)
        transaction.set_rollback(True)
    assert not closed(node)
    assert Node.objects.filter(parent__isnull=False).count() == 1


# Repeated ---------------------------------------------------------------------------------


def test_a_repetition_with_the_same_key_is_the_first_one(sim):
    options = {"subject": "camera", "key": "k", "close": True}
    first = signal(workflows.done.s(1), **options, delay=60)
    assert signal(workflows.done.s(2), **options) == first
    assert first.workflow.signal(workflows.done.s(3), key="k", close=True) == first
    assert signal_many([(workflows.done.s(4), options)]) == [first]
    with pytest.raises(WorkflowClosed):
        signal(workflows.done.s(5), **{**options, "key": "other"})
    with pytest.raises(WorkflowClosed):
        signal(workflows.done.s(6), subject="camera", key="k")
    sim.advance(minutes=2)
    assert [call.args for call in sim.calls] == [[1]]
    assert signal(workflows.done.s(7), **options).workflow.run == 2


def test_a_known_key_closes_the_run_all_the_same(sim):
    first = signal(workflows.done.s(), subject="camera", key="k")
    assert signal(workflows.done.s(), subject="camera", key="k", close=True) == first
    assert closed(first)


@pytest.mark.parametrize("pause", [1, 3600], ids=["while it runs", "after its end"])
@pytest.mark.parametrize(
    "options", [{}, {"subject": "lens", "close": True}], ids=["alone", "closing"]
)
def test_a_handler_that_is_retried_sends_it_once(sim, script, options, pause):
    def send(task):
        signal(workflows.done.s("sent"), **options, delay=60)
        if task.request.retries == 0:
            task.retry(countdown=pause)

    script(send)
    signal(workflows.scripted.s(), subject="camera")
    sim.advance(hours=3)
    assert [call.args for call in sim.calls if call.task == workflows.done.name] == [["sent"]]
    assert Workflow.objects.exclude(subject="camera").count() == 1


def test_a_handler_may_send_several_that_are_alone(sim, script):
    def send(task):
        for number in range(3):
            signal(workflows.done.s(number))
        if task.request.retries == 0:
            raise RuntimeError("again")

    script(send)
    signal(workflows.scripted.s(), subject="camera")
    sim.advance(hours=1)
    called = [call.args for call in sim.calls if call.task == workflows.done.name]
    assert sorted(called) == [[0], [1], [2]]


def test_a_handler_may_send_the_last_one_after_others(sim, script):
    def send(task):
        signal(workflows.done.s(1), subject="lens")
        signal(workflows.done.s(2), subject="lens", close=True)
        if task.request.retries == 0:
            raise RuntimeError("again")

    script(send)
    signal(workflows.scripted.s(), subject="camera")
    sim.run()
    assert [call.args for call in sim.calls if call.task == workflows.done.name] == [[1], [2]]


# Without a subject ------------------------------------------------------------------------


def test_without_a_subject_the_workflow_is_the_signals_own(sim):
    nodes = [signal(workflows.done.s(n)) for n in range(2)]
    nodes += signal_many((workflows.done.s(n), {}) for n in range(2, 4))
    assert len({node.workflow_id for node in nodes}) == 4
    for node in nodes:
        assert str(UUID(node.workflow.subject)) == node.workflow.subject
        assert (node.workflow.name, node.workflow.run) == (workflows.done.name, 1)
        assert closed(node)
    sim.run()
    assert [fresh(node.workflow) for node in nodes] == ["complete"] * 4


def test_it_may_have_a_name_and_a_time(sim):
    node = signal(workflows.done.s(), name="mail", delay=60)
    assert node.workflow.name == "mail"
    sim.run()
    assert fresh(node.workflow) == "waiting"
    sim.advance(minutes=2)
    assert fresh(node.workflow) == "complete"


def test_close_false_changes_nothing_without_a_subject(sim):
    assert closed(signal(workflows.done.s(), close=False))


def test_a_key_needs_a_subject(sim):
    with pytest.raises(BadInput, match="subject"):
        signal(workflows.done.s(), key="k")
    assert not Workflow.objects.exists()

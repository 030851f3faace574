"""A run that ends, or is deleted, between a look at it and the lock."""

from __future__ import annotations

import pytest

from backbeat_celery import signal, signal_many
from backbeat_celery.exceptions import WorkflowClosed
from backbeat_celery.models import Node, Workflow
from tests import workflows
from tests.races.threads import DEADLINE, RACES, repeated, start, together
from tests.races.worker import status, succeed, taken

pytestmark = RACES


def _signal(**options):
    return signal(workflows.done.s(), subject="camera", name="w", **options)


def _close(workflow):
    """The run is closed and at once finished: all that is in it is done."""
    workflow.close()
    workflow.refresh_from_db()
    assert workflow.finished_at is not None


ENDS = pytest.mark.parametrize("end", [_close, Workflow.delete], ids=["closed", "deleted"])


@pytest.fixture
def workflow(stops):
    """An open run whose only signal is complete."""
    node = _signal()
    succeed(taken(node))
    return Workflow.objects.get(pk=node.workflow_id)


def _meanwhile(stops, function, end):
    """Call a function; let something happen when it has found the run and not locked it yet."""
    stop = stops.stop("late", "run_found")
    future = start(function, "late")
    stop.wait()
    end()
    stop.release()
    return future


@ENDS
def test_a_signal_to_a_run_that_ends_meanwhile_opens_the_next_one(stops, workflow, end):
    late = _meanwhile(stops, lambda: _signal(key="once"), lambda: end(workflow))
    node = late.result(DEADLINE)
    assert (node.workflow_id != workflow.pk, node.key) == (True, "once")
    assert Workflow.objects.get(unfinished=True).pk == node.workflow_id
    assert (node.seq, status(node)) == (0, "queued")


def test_a_signal_to_a_run_that_is_closed_meanwhile_and_goes_on_is_refused(stops, workflow):
    _signal()
    late = _meanwhile(stops, lambda: _signal(key="once"), workflow.close)
    with pytest.raises(WorkflowClosed, match="was closed at"):
        late.result(DEADLINE)
    assert not Node.objects.filter(key="once").exists()


@ENDS
def test_a_signal_to_that_very_run_is_refused(stops, workflow, end):
    old = Workflow.objects.get(pk=workflow.pk)
    late = _meanwhile(stops, lambda: old.signal(workflows.done.s()), lambda: end(workflow))
    with pytest.raises(WorkflowClosed, match=r"finished|deleted"):
        late.result(DEADLINE)
    assert Workflow.objects.filter(unfinished=True).count() == 0


def test_a_signal_that_closes_is_the_first_one_if_another_with_its_key_was_faster(stops, workflow):
    again = {"key": "once", "close": True}
    late = _meanwhile(stops, lambda: _signal(**again), lambda: _signal(**again))
    assert late.result(DEADLINE) == Node.objects.get(key="once")


@repeated(10)
def test_of_eight_that_close_a_run_one_is_sent(stops, workflow, repetition):
    def send():
        try:
            return _signal(close=True)
        except WorkflowClosed:
            return None

    sent = [node for node in together(*[send] * 8) if node is not None]
    assert sent == list(Node.objects.filter(parent=workflow.pk, seq__gt=0))
    assert len(sent) == 1


@repeated(10)
def test_the_last_signals_of_a_run_are_sent_all_or_none(stops, workflow, repetition):

    def send():
        try:
            return signal_many(
                (workflows.done.s(), {"subject": "camera", "name": "w", "close": close})
                for close in (False, True)
            )
        except WorkflowClosed:
            return []

    sent, *_ = together(send, workflow.close, workflow.pause, workflow.cancel)
    assert len(sent) in {0, 2}
    workflow.refresh_from_db()
    assert workflow.closed_at is not None

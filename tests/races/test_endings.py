"""A run that ends, or is deleted, between a look at it and the lock."""

from __future__ import annotations

import pytest

from backbeat_celery import signal
from backbeat_celery.exceptions import WorkflowClosed
from backbeat_celery.models import Node, Workflow
from tests import workflows
from tests.races.threads import DEADLINE, RACES, start
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

"""A report that was taken while the handler still ran counts, however the attempt ends."""

from __future__ import annotations

from contextlib import suppress

import pytest
from celery.exceptions import Reject, WorkerShutdown

from backbeat_celery import current_node, signal
from backbeat_celery.conf import settings
from backbeat_celery.engine.claim import NodeMessage
from backbeat_celery.engine.repair import sweep, worker_events
from backbeat_celery.models import Node
from backbeat_celery.runtime.failpoints import WorkerDied
from tests import workflows

SAID = {"complete": (41,), "fail": ("declined",)}


def _raise(exc):
    raise exc


def _message(node):
    node.refresh_from_db()
    return NodeMessage(node.pk, node.task, node.attempt, "default", node.claim_id)


def _run_out(sim, node):
    """The lease runs out, and a sweep finds it."""
    sim.advance(seconds=settings.lease + settings.sweep_interval)


def _time_out(sim, node):
    """Its worker lives on, and its time is over."""
    Node.objects.filter(pk=node.pk).update(times_out_at=sim.now)
    sim.sweep()


# What the handler does after the report, and what becomes of the attempt then.
ENDS = {
    "died": (WorkerDied("killed"), _run_out),
    "seen to die": (
        WorkerDied("killed"),
        lambda sim, node: worker_events.worker_lost(_message(node)),
    ),
    "killed at its limit": (
        WorkerDied("killed"),
        lambda sim, node: worker_events.hard_time_limit(_message(node)),
    ),
    "timed out": (WorkerDied("hangs"), _time_out),
    "shut down": (WorkerShutdown(0), lambda sim, node: None),
    "given back": (Reject("later", requeue=True), lambda sim, node: None),
}
each_end = pytest.mark.parametrize(("ends", "then"), ENDS.values(), ids=ENDS)


@pytest.fixture
def reported(sim, script):
    """A node that is reported while its handler runs, which then ends in that way."""

    def run(verb, ends, then):
        def work(_):
            if current_node().attempt == 1:
                current_node().spawn(workflows.done.s())
                getattr(Node.objects.get(pk=current_node().id), verb)(*SAID[verb], by="ada")
                raise ends

        script(work)
        node = signal(workflows.scripted_awaiting, subject="camera", name="order")
        signal(workflows.done.s("behind"), subject="camera", name="order")
        with suppress(WorkerShutdown):
            sim.run()
        then(sim, node)
        sim.run()
        node.refresh_from_db()
        return node

    return run


@each_end
def test_a_success_that_was_taken_counts(sim, reported, ends, then):
    node = reported("complete", ends, then)
    assert (node.status, node.result, node.attempt, node.report) == ("complete", 41, 1, None)
    assert [attempt.outcome for attempt in node.attempts] == ["succeeded"]
    assert node.history[-1].actor == "ada"
    assert not node.children.exists()  # the handler never came to its end
    assert [call.args for call in sim.calls] == [[], ["behind"]]


@each_end
def test_a_failure_that_was_taken_counts(sim, reported, ends, then):
    node = reported("fail", ends, then)
    assert (node.status, node.error, node.report) == ("retrying", "declined", None)
    assert (node.retries, node.lost_attempts) == (1, 0)
    assert [attempt.outcome for attempt in node.attempts] == ["failed"]


def test_the_history_tells_why_the_report_counted(sim, reported):
    node = reported("complete", *ENDS["died"])
    assert node.history[-1].reason == "reported before the attempt was lost"


def test_children_from_outside_run_when_the_report_counts(sim, reported):
    def then(sim, node):
        node.add_child(workflows.done.s("outside"))
        _run_out(sim, node)

    node = reported("complete", WorkerDied("killed"), then)
    assert (node.status, node.children.get().status) == ("complete", "complete")


def test_a_report_that_comes_between_the_look_and_the_mend_is_not_lost(sim, script, monkeypatch):
    lose = sweep.lose
    script(lambda _: _raise(WorkerDied("killed")))
    node = signal(workflows.scripted_awaiting, subject="camera")
    sim.run()

    def late(row):
        if not node.report:
            node.complete(41)
        return lose(row)

    monkeypatch.setattr(sweep, "lose", late)
    sim.advance(seconds=settings.lease + 2 * settings.sweep_interval)
    node.refresh_from_db()
    assert (node.status, node.result, node.attempt) == ("complete", 41, 1)

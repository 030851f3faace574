"""Workers that die, messages that are lost or doubled, attempts that come too late."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from backbeat_celery import current_node, signal
from backbeat_celery.engine.claim import NodeMessage
from backbeat_celery.engine.repair import worker_events
from backbeat_celery.engine.repair.sweep import Sweep
from backbeat_celery.models import Node
from backbeat_celery.runtime.failpoints import WorkerDied
from tests import workflows

POINTS = ["before_handler", "in_handler", "after_handler", "after_record"]
PARALLEL = {"mode": "non_blocking"}


@pytest.fixture
def dead(sim):
    """A node whose worker has died in the handler."""

    def die(signature=None):
        node = signal(signature or workflows.done.s(1), subject="camera")
        sim.kill_next("in_handler")
        sim.run()
        node.refresh_from_db()
        assert node.status == "running"
        return node

    return die


@pytest.mark.parametrize("point", POINTS)
def test_a_tree_completes_whatever_kills_its_worker(sim, run_tree, point):
    sim.kill_next(point)
    node = run_tree(PARALLEL, PARALLEL, {"barrier": True}, {"flag": "f"})
    sim.advance(seconds=60)
    node.refresh_from_db()
    assert (node.status, node.retries) == ("complete", 0)
    assert node.children.count() == 4
    assert [a.outcome for a in node.attempts].count("succeeded") == 1


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("position", range(4))
def test_a_child_may_die_in_any_place(sim, position, point):
    shape = {"spawn": [PARALLEL, PARALLEL, {"barrier": True}]}
    node = signal(workflows.tree.s(shape), subject="camera")
    for _ in range(position):
        sim.step()
    sim.kill_next(point)
    sim.advance(seconds=60)
    node.refresh_from_db()
    assert node.status == "complete"
    assert node.children.filter(status="complete").count() == 3


def test_a_dead_worker_does_not_use_up_a_retry(sim, dead):
    node = dead()
    sim.advance(seconds=36)
    node.refresh_from_db()
    assert (node.status, node.retries, node.attempt) == ("complete", 0, 2)
    assert [a.outcome for a in node.attempts] == ["lost", "succeeded"]
    assert "did not renew its lease" in node.attempts[0].error


def test_a_lease_is_not_taken_before_it_expires(sim, dead):
    node = dead()
    sim.advance(seconds=29)
    node.refresh_from_db()
    assert (node.status, node.attempt) == ("running", 1)


def test_a_node_that_kills_its_worker_again_and_again_is_failed(sim, dead):
    node = dead()
    for _ in range(2):
        sim.kill_next("in_handler")
        sim.advance(seconds=40)
    sim.advance(minutes=5)
    node.refresh_from_db()
    assert (node.status, node.attempt, node.retries) == ("failed", 3, 0)
    assert [a.outcome for a in node.attempts] == ["lost"] * 3
    assert "lost 3 attempts in a row" in node.history[-1].reason


def test_lost_attempts_are_counted_since_the_last_report(sim, script):
    def work(task):
        if current_node().attempt in {1, 2, 4, 5}:
            raise WorkerDied
        if current_node().attempt == 3:
            raise RuntimeError

    script(work)
    node = signal(workflows.scripted.s(), subject="camera")
    sim.advance(minutes=5)
    node.refresh_from_db()
    assert (node.status, node.retries) == ("complete", 1)
    assert [a.outcome for a in node.attempts] == [
        *["lost", "lost", "failed"],
        *["lost", "lost", "succeeded"],
    ]


def test_lost_messages_are_sent_again(sim):
    nodes = [signal(workflows.done.s(n), subject=f"s{n}") for n in range(50)]
    assert sim.lose_messages() == 50
    sim.advance(seconds=60)
    assert Node.objects.filter(pk__in=[n.pk for n in nodes], status="complete").count() == 50


def test_messages_lost_again_and_again_do_not_flood(sim):
    signal(workflows.done.s(), subject="camera")
    sent = 0
    for _ in range(60):
        sent += sim.lose_messages()
        sim.advance(minutes=1)
        if sim.calls:
            sent += sim.lose_messages()
    assert len(sim.calls) == 1
    assert sent < 10


def test_doubled_messages_run_a_node_once(sim, run_tree):
    node = signal(workflows.tree.s({"spawn": [PARALLEL] * 5}), subject="camera")
    sim.duplicate_messages()
    sim.step()
    sim.duplicate_messages()
    sim.run()
    node.refresh_from_db()
    assert (node.status, len(sim.calls), node.children.count()) == ("complete", 6, 5)


def test_a_message_that_comes_late_changes_nothing(sim):
    signal(workflows.flaky.s(1), subject="camera")
    sim.duplicate_messages()
    sim.advance(minutes=1)
    sim.run()
    assert [(c.attempt) for c in sim.calls if c.task == workflows.flaky.name] == [1, 2]


def sweep_late(node_id, column):
    """Make time pass for an attempt while its handler runs, and sweep."""
    node = Node.objects.get(pk=node_id)
    Node.objects.filter(pk=node_id).update(**{column: node.started_at - timedelta(seconds=1)})
    Sweep("default").run()


@pytest.mark.parametrize(
    ("column", "outcome", "status"),
    [
        ("lease_expires_at", "lost", "queued"),
        ("times_out_at", "timed_out", "retrying"),
    ],
)
def test_an_attempt_that_reports_too_late_changes_nothing(sim, script, column, outcome, status):
    seen = []

    def work(task):
        current_node().spawn(workflows.done.s())
        if current_node().attempt == 1:
            sweep_late(current_node().id, column)
            seen.append(current_node().is_wanted())
        return current_node().attempt

    script(work)
    node = signal(workflows.scripted.s(), subject="camera")
    sim.step()
    node.refresh_from_db()
    assert (node.status, node.result, seen) == (status, None, [False])
    assert [a.outcome for a in node.attempts] == [outcome]
    assert not node.children.exists()
    sim.advance(minutes=1)
    node.refresh_from_db()
    assert (node.status, node.result, node.children.count()) == ("complete", 2, 1)


def test_the_error_of_a_late_attempt_does_not_count(sim, script):
    def work(task):
        if current_node().attempt == 1:
            sweep_late(current_node().id, "lease_expires_at")
            raise RuntimeError("too late")

    script(work)
    node = signal(workflows.scripted.s(), subject="camera")
    sim.advance(minutes=1)
    node.refresh_from_db()
    assert (node.status, node.retries) == ("complete", 0)


def test_a_late_attempt_does_not_end_as_a_success_for_celery(sim, script):
    """Monitors and hooks of a fenced attempt must not see an outcome that was discarded."""
    from celery.signals import task_success

    seen = []

    def note(sender=None, **_):
        seen.append(sender.name)

    def work(task):
        if current_node().attempt == 1:
            sweep_late(current_node().id, "times_out_at")

    script(work)
    task_success.connect(note)
    signal(workflows.scripted.s(), subject="camera")
    sim.step()
    task_success.disconnect(note)
    assert seen == []


def test_one_bad_row_does_not_stop_the_sweep(sim):
    bad, good = (signal(workflows.done.s(), subject=s) for s in ("a", "b"))
    sim.lose_messages()
    Node.objects.filter(pk=bad.pk).update(task="no.longer.there")
    sim.advance(minutes=1)
    good.refresh_from_db()
    assert good.status == "complete"


def test_after_a_death_behind_the_record_only_the_sweep_goes_on(sim):
    node = signal(workflows.tree.s({"spawn": [{}]}), subject="camera")
    sim.step()
    sim.kill_next("after_record")
    sim.run()
    node.refresh_from_db()
    assert node.status == "waiting"
    sim.sweep()
    node.refresh_from_db()
    assert node.status == "complete"


def test_a_step_of_the_sweep_that_fails_does_not_stop_the_others(sim, monkeypatch):
    node = signal(workflows.done.s(), subject="camera")
    sim.lose_messages()
    monkeypatch.setattr(Sweep, "_expired", lambda self: 1 / 0)
    sim.advance(minutes=2)
    node.refresh_from_db()
    assert node.status == "complete"


def test_a_forged_message_for_an_unknown_task_wastes_nothing(sim):
    node = signal(workflows.done.s(), subject="camera", delay=24 * 3600)
    forged = NodeMessage(node.pk, "no.such.task", 1, "default", uuid4())
    worker_events.unknown_task(forged)
    sim.advance(hours=23)
    node.refresh_from_db()
    assert node.status == "queued"

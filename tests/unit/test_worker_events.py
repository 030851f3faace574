"""What a worker notices of an attempt without a report, and what it makes of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backbeat_celery import signal
from backbeat_celery.engine.claim import NodeMessage
from backbeat_celery.engine.repair import worker_events
from backbeat_celery.models import Node
from tests import workflows


def message(node):
    """What the main process of a worker knows of a delivery."""
    return NodeMessage(node.pk, node.task, node.attempt, "default", node.claim_id)


@pytest.fixture
def hung(sim):
    """A node that hangs in its handler; its worker lives and renews its lease."""
    node = signal(workflows.slow.s(), subject="camera")
    sim.kill_next("in_handler")
    sim.run()
    node.refresh_from_db()
    return node


def test_an_attempt_over_its_time_has_failed_and_uses_up_a_retry(sim, hung):
    worker_events.renew([message(hung)])
    for _ in range(5):
        sim.advance(seconds=14)
        worker_events.renew([message(hung)])
    hung.refresh_from_db()
    assert (hung.retries, hung.lost_attempts) == (1, 0)
    assert hung.attempts[0].outcome == "timed_out"


def test_a_renewed_lease_does_not_expire(sim, hung):
    for _ in range(4):
        worker_events.renew([message(hung)])
        sim.advance(seconds=14)
    hung.refresh_from_db()
    assert (hung.status, hung.attempt) == ("running", 1)


def test_a_worker_that_lost_its_child_mends_the_node_at_once(sim, hung):
    worker_events.worker_lost(message(hung))
    hung.refresh_from_db()
    assert (hung.status, hung.retries) == ("queued", 0)


def test_a_child_that_died_in_a_shutdown_has_given_its_attempt_back_uncounted(sim, hung):
    worker_events.worker_lost(message(hung), in_shutdown=True)
    hung.refresh_from_db()
    assert (hung.status, hung.retries, hung.lost_attempts) == ("queued", 0, 0)
    assert [attempt.outcome for attempt in hung.attempts] == ["given_back"]


def test_a_hard_time_limit_is_a_failure_at_once(sim, hung):
    worker_events.hard_time_limit(message(hung))
    hung.refresh_from_db()
    assert (hung.status, hung.retries) == ("retrying", 1)


@pytest.mark.parametrize("hint", [worker_events.worker_lost, worker_events.hard_time_limit])
def test_a_hint_about_an_older_claim_changes_nothing(sim, hung, hint):
    old = message(hung)
    Node.objects.filter(pk=hung.pk).update(claim_id=hung.workflow_id)
    hint(old)
    hung.refresh_from_db()
    assert hung.status == "running"


def test_a_dropped_message_is_sent_again_at_the_next_sweep(sim):
    node = signal(workflows.done.s(), subject="camera")
    sim.lose_messages()
    worker_events.message_dropped(message(node))
    sim.advance(seconds=6)
    assert len(sim.calls) == 1


def test_a_task_that_no_worker_knows_fails_the_node_after_the_grace(sim):
    node = signal(workflows.done.s(), subject="camera")
    sim.lose_messages()
    Node.objects.update(publish_at=sim.now + timedelta(days=9))
    worker_events.unknown_task(message(node))
    sim.advance(seconds=3590)
    node.refresh_from_db()
    assert node.status == "queued"
    assert "deployed everywhere" in node.error
    sim.advance(seconds=20)
    node.refresh_from_db()
    assert (node.status, node.history[-1].reason) == ("failed", "no worker knows the task")


def test_a_worker_that_knows_the_task_after_all_runs_the_node(sim):
    node = signal(workflows.done.s(5), subject="camera")
    worker_events.unknown_task(message(node))
    sim.advance(hours=2)
    node.refresh_from_db()
    assert (node.status, node.result, node.error) == ("complete", 5, None)

"""Timers live in the database; a message is under way only shortly before it is due."""

from __future__ import annotations

import pytest

from backbeat_celery import signal
from backbeat_celery.models import Node
from tests import workflows


@pytest.mark.parametrize(
    ("delay", "in_flight"),
    [(0, 1), (1, 1), (60, 1), (61, 0), (86400, 0)],
)
def test_a_timer_beyond_the_horizon_has_no_message(sim, delay, in_flight):
    signal(workflows.done.s(), subject="camera", delay=delay)
    assert sim.in_flight == in_flight


def test_the_message_is_sent_within_the_horizon(sim):
    signal(workflows.done.s(), subject="camera", delay=3600)
    sim.advance(seconds=3600 - 61)
    assert sim.in_flight == 0
    sim.advance(seconds=10)
    assert (sim.in_flight, len(sim.calls)) == (1, 0)


@pytest.mark.parametrize("delay", [5, 59, 61, 600, 86400 * 30])
def test_a_timer_fires_at_its_time_and_never_before(sim, delay):
    start = sim.now
    signal(workflows.done.s(), subject="camera", delay=delay)
    sim.advance(seconds=delay + 10)
    assert 0 <= (sim.calls[0].at - start).total_seconds() - delay <= 5


def test_timers_fire_in_the_order_of_their_times(sim):
    for delay in (300, 20, 7200, 61):
        signal(workflows.done.s(delay), subject=f"s{delay}", delay=delay)
    sim.advance(hours=3)
    assert [call.args[0] for call in sim.calls] == [20, 61, 300, 7200]


def test_another_horizon_is_honoured(sim, settings):
    settings.BACKBEAT = {"PUBLISH_HORIZON": 0}
    signal(workflows.done.s(), subject="camera", delay=10)
    assert sim.in_flight == 0
    sim.advance(seconds=16)
    assert len(sim.calls) == 1


def test_a_retry_beyond_the_horizon_has_no_message(sim, script):
    script(lambda task: task.request.retries or task.retry(countdown=3600))
    node = signal(workflows.scripted.s(), subject="camera")
    sim.run()
    assert sim.in_flight == 0
    sim.advance(hours=2)
    node.refresh_from_db()
    assert node.status == "complete"


def test_a_lost_timer_message_is_sent_again(sim):
    signal(workflows.done.s(), subject="camera", delay=30)
    sim.lose_messages()
    sim.advance(seconds=70)
    assert len(sim.calls) == 1


def test_a_message_that_comes_too_early_is_put_off(sim):
    """The clocks of two machines differ."""
    node = signal(workflows.done.s(), subject="camera")
    later = sim.now.replace(year=sim.now.year + 1)
    Node.objects.filter(pk=node.pk).update(fires_at=later)
    sim.run()
    assert sim.calls == []
    node.refresh_from_db()
    assert node.status == "queued"


def test_a_timer_holds_its_place_in_the_line(sim):
    signal(workflows.done.s(1), subject="camera", delay=100)
    signal(workflows.done.s(2), subject="camera", delay=50)
    sim.advance(seconds=99)
    assert sim.calls == []
    sim.advance(seconds=20)
    assert [call.args[0] for call in sim.calls] == [1, 2]


def test_a_delay_of_a_child_counts_from_its_registration(sim, run_tree):
    start = sim.now
    node = run_tree({"delay": 100}, {"delay": 40})
    sim.advance(seconds=110)
    assert [c.at.timestamp() - start.timestamp() for c in sim.calls][1] == pytest.approx(
        100, abs=5
    )
    node.refresh_from_db()
    assert node.status == "complete"


def test_a_flag_beyond_the_horizon_fires(sim, run_tree, statuses):
    node = run_tree({"flag": "payday", "delay": 86400 * 30}, {"flag": "after"})
    sim.advance(days=29)
    assert statuses(node) == ["queued", "ready"]
    sim.advance(days=2)
    assert statuses(node) == ["complete", "complete"]
    node.refresh_from_db()
    assert node.status == "complete"


def test_many_timers_wait_without_messages(sim):
    from backbeat_celery import signal_many

    items = [(workflows.done.s(), {"subject": f"s{n}", "delay": 3600}) for n in range(60)]
    signal_many(items)
    assert sim.in_flight == 0
    sim.advance(hours=2)
    assert len(sim.calls) == 60

"""The testing kit: it repeats exactly, keeps time, and works where users test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import TestCase

from backbeat_celery import current_node, signal
from backbeat_celery.models import Node
from backbeat_celery.testing import Simulation
from tests import workflows

START = datetime(2030, 1, 1, tzinfo=UTC)


def order(seed: int) -> list[int]:
    """The order in which twenty signals run with a seed."""
    with Simulation(seed=seed) as sim:
        for n in range(20):
            signal(workflows.done.s(n), subject=f"{seed} {n} {Node.objects.count()}")
        sim.run()
        return [call.args[0] for call in sim.calls]


def test_the_same_seed_gives_the_same_order(db):
    assert order(1) == order(1)


def test_different_seeds_give_different_orders(db):
    assert len({tuple(order(seed)) for seed in range(5)}) > 1


def test_the_clock_starts_where_it_is_told(db):
    with Simulation(start=START) as sim:
        node = signal(workflows.done.s(), subject="camera")
        sim.advance(hours=1)
        node.refresh_from_db()
        assert sim.now == START + timedelta(hours=1)
        assert node.created_at == node.started_at == node.finished_at == START
        assert node.history[-1].at == node.attempts[0].finished_at == START
        assert node.workflow.created_at == START


def test_a_start_without_time_zone_is_refused():
    with pytest.raises(ValueError, match="aware datetime"):
        Simulation(start=datetime(2030, 1, 1))


@pytest.mark.parametrize("step", [timedelta(hours=2), timedelta(0)])
def test_advance_takes_a_timedelta(sim, step):
    before = sim.now
    sim.advance(step)
    assert sim.now == before + step


def test_advance_runs_what_falls_due_in_the_order_of_time(sim):
    for delay in (7200, 3, 90, 3600):
        signal(workflows.done.s(delay), subject=f"s{delay}", delay=delay)
    start = sim.now
    sim.advance(hours=3)
    times = [(call.at - start).total_seconds() for call in sim.calls]
    assert [call.args[0] for call in sim.calls] == [3, 90, 3600, 7200]
    assert times == sorted(times)


def test_a_workflow_takes_no_time_of_its_own(sim, run_tree):
    before = sim.now
    assert run_tree(*[{"mode": "non_blocking"}] * 50, {"barrier": True}).status == "complete"
    assert sim.now == before


def test_calls_tell_what_was_called(sim):
    node = signal(workflows.plain.s(1, y=2), subject="camera")
    sim.run()
    [call] = sim.calls
    assert (call.task, call.args, call.kwargs) == (workflows.plain.name, [1], {"y": 2})
    assert (call.node_id, call.attempt, call.at) == (node.pk, 1, sim.now)


def test_calls_of_a_handler_that_dies_are_told_and_of_one_that_was_not_reached_are_not(sim):
    for point, count in (("before_handler", 0), ("in_handler", 1)):
        signal(workflows.done.s(), subject=point)
        sim.kill_next(point)
        sim.run()
        assert len(sim.calls) == count


def test_a_kill_happens_once(sim):
    sim.kill_next("in_handler")
    nodes = [signal(workflows.done.s(), subject=f"s{n}") for n in range(2)]
    sim.run()
    statuses = Node.objects.filter(pk__in=[n.pk for n in nodes]).values_list("status", flat=True)
    assert sorted(statuses) == ["complete", "running"]


def test_a_point_that_does_not_exist_is_refused(sim):
    with pytest.raises(ValueError, match="lunch"):
        sim.kill_next("lunch")


def test_a_month_passes_quickly(sim):
    node = signal(workflows.done.s(), subject="camera", delay=86400 * 30)
    sim.advance(days=31)
    node.refresh_from_db()
    assert node.status == "complete"


def test_a_long_wait_has_no_effect_on_what_waits_for_an_operator(sim):
    signal(workflows.fatal.s(), subject="camera")
    sim.advance(days=365)
    assert len(sim.calls) == 1


def test_what_is_changed_by_hand_is_found_by_the_next_sweep_on_the_way(sim):
    """A quiet simulation skips sweeps that would find nothing; this one finds something."""
    node = signal(workflows.done.s(), subject="camera")
    sim.advance(hours=1)
    node.workflow.closed_at = sim.now
    node.workflow.save()
    sim.advance(minutes=1)
    assert Node.objects.get(pk=node.workflow_id).status == "complete"


def test_a_timer_that_a_report_from_outside_opens_is_not_slept_through(sim, script):
    """Nothing was due for an hour until the report; what it opens is due before that."""

    def work(task):
        current_node().spawn(workflows.awaiting.s())
        current_node().spawn(workflows.done.s(), delay=500)

    script(work)
    start = sim.now
    signal(workflows.scripted.s(), subject="camera")
    sim.advance(seconds=20)
    Node.objects.get(task=workflows.awaiting.name).complete()
    sim.advance(hours=2)
    assert sim.calls[-1].at - start == timedelta(seconds=500)


def test_a_task_registered_meanwhile_runs_as_a_node(sim):
    from celery import current_app, shared_task

    @shared_task(name="tests.simulation.latecomer")
    def latecomer() -> str:
        return "here"

    node = signal(latecomer.s(), subject="camera")
    sim.run()
    node.refresh_from_db()
    current_app.tasks.pop(latecomer.name)
    assert (node.status, node.result) == ("complete", "here")


def test_a_loop_without_end_is_told(sim, script):
    script(lambda task: signal(workflows.scripted.s(), subject="camera") and None)
    signal(workflows.scripted.s(), subject="camera")
    with pytest.raises(AssertionError, match="still due after 50"):
        sim.run(max_steps=50)


def test_nothing_of_a_simulation_remains(db):
    from backbeat_celery.engine.delivery.outbox import BrokerOutbox, outbox
    from backbeat_celery.runtime import clock

    with Simulation():
        assert clock.is_simulated()
    assert not clock.is_simulated()
    assert isinstance(outbox(), BrokerOutbox)


def test_two_simulations_after_each_other_share_the_rows(db):
    with Simulation() as first:
        node = signal(workflows.done.s(), subject="camera")
        first.lose_messages()
    with Simulation(start=first.now) as second:
        second.advance(minutes=1)
        node.refresh_from_db()
        assert node.status == "complete"


def test_the_fixture_gives_a_simulation(backbeat):
    assert isinstance(backbeat, Simulation)
    assert backbeat.calls == []


class OrdinaryTestCaseTests(TestCase):
    """Inside Django's own TestCase, whose transaction is never committed."""

    def test_a_workflow_runs(self):
        with Simulation() as sim:
            node = signal(workflows.flaky.s(1), subject="camera")
            sim.advance(minutes=1)
            node.refresh_from_db()
            assert node.status == "complete"
            assert len(sim.calls) == 3

    def test_the_rows_of_another_test_are_gone(self):
        assert not Node.objects.exists()

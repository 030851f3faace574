"""Failures: when the next attempt runs, when there is none, and what an attempt leaves behind."""

from __future__ import annotations

import logging
from datetime import timedelta
from itertools import pairwise

import pytest
from celery import group
from celery.exceptions import MaxRetriesExceededError, Retry

from backbeat_celery import current_node, signal, signal_many
from backbeat_celery.exceptions import BadInput
from backbeat_celery.models import Node
from tests import workflows


def fail(task):
    raise RuntimeError("no")


@pytest.fixture
def send(sim):
    """Signal a task and run what is due."""

    def signal_and_run(signature=None, **options):
        node = signal(signature or workflows.scripted.s(), subject="camera", **options)
        sim.run()
        node.refresh_from_db()
        return node

    return signal_and_run


def gaps(sim):
    """Seconds from each call of a handler to the next."""
    times = [call.at for call in sim.calls]
    return [(b - a).total_seconds() for a, b in pairwise(times)]


def test_a_failed_node_is_retried_after_its_delay(sim, script, send):
    script(fail)
    node = send()
    assert (node.status, node.retries, node.attempt) == ("retrying", 1, 1)
    assert node.fires_at == sim.now + timedelta(seconds=10)
    assert "RuntimeError" in node.error


def test_the_delay_doubles(sim, script, send):
    script(fail)
    send()
    sim.advance(minutes=5)
    assert gaps(sim) == [10, 20]


def test_retries_exhausted_make_the_node_failed(sim, script, send):
    script(fail)
    node = send()
    sim.advance(hours=5)
    node.refresh_from_db()
    assert (node.status, node.outcome, node.retries, node.attempt) == ("failed", "", 3, 3)
    assert node.finished_at is None
    assert [a.outcome for a in node.attempts] == ["failed"] * 3
    assert node.history[-1].reason == "retries exhausted after 3 failures"


def test_each_attempt_keeps_its_error_and_traceback(sim, script, send):
    script(fail)
    node = send()
    [attempt] = node.attempts
    assert attempt.error == "RuntimeError('no')"
    assert "in fail" in attempt.traceback
    assert attempt.worker


def test_a_node_that_succeeds_at_last_forgets_its_error(sim, send):
    node = send(workflows.flaky.s(1))
    sim.advance(minutes=1)
    node.refresh_from_db()
    assert (node.status, node.result, node.error) == ("complete", "at last", None)


def test_a_failed_attempt_leaves_no_children(sim, send):
    node = send(workflows.flaky.s(2))
    assert not node.children.exists()
    sim.advance(minutes=5)
    [child] = node.children.all()
    assert (child.args, child.spawned_by) == ([3], 3)


def test_a_node_without_limit_is_retried_for_ever(sim, send):
    node = send(workflows.stubborn.s())
    sim.advance(seconds=5 * 30)
    node.refresh_from_db()
    assert (node.status, node.retries) == ("retrying", 31)


def test_a_fatal_error_is_not_retried(send):
    node = send(workflows.fatal.s())
    assert (node.status, node.retries) == ("failed", 1)


def test_a_subclass_of_a_fatal_error_is_fatal(script, send):
    def decode(task):
        b"\xff".decode()

    script(decode)
    assert send(workflows.scripted_with_limits.s()).status == "failed"


def test_an_error_in_throws_is_retried_and_logged_without_traceback(script, send, caplog):
    def look(task):
        raise KeyError("x")

    script(look)
    with caplog.at_level(logging.WARNING):
        assert send(workflows.scripted_with_limits.s()).status == "retrying"
    assert all(record.exc_info is None for record in caplog.records)


def test_another_error_is_logged_with_traceback(script, send, caplog):
    script(fail)
    with caplog.at_level(logging.WARNING, logger="backbeat_celery"):
        send()
    assert any(record.exc_info for record in caplog.records)


def test_self_retry_waits_as_told(sim, send):
    node = send(workflows.bound.s(40))
    sim.advance(minutes=2)
    node.refresh_from_db()
    assert (node.status, node.result) == ("complete", 2)
    assert gaps(sim) == [40, 40]


def test_self_retry_at_a_time(sim, script, send):
    at = sim.now + timedelta(hours=3)
    script(lambda task: task.request.retries or task.retry(eta=at))
    node = send()
    assert (node.status, node.fires_at) == ("retrying", at)
    sim.advance(hours=4)
    node.refresh_from_db()
    assert (node.status, node.result) == ("complete", 1)


def test_self_retry_at_a_naive_time_is_utc(sim, script, send):
    at = sim.now + timedelta(minutes=3)
    script(lambda task: task.request.retries or task.retry(eta=at.replace(tzinfo=None)))
    assert send().fires_at == at


def test_self_retry_without_a_time_takes_the_backoff(sim, script, send):
    script(lambda task: task.request.retries or task.retry())
    assert send().fires_at == sim.now + timedelta(seconds=10)


def test_an_option_of_self_retry_that_is_none_says_nothing(sim, script, send):
    script(lambda task: task.request.retries or task.retry(args=None, expires=None))
    assert send().fires_at == sim.now + timedelta(seconds=10)


@pytest.mark.parametrize(("limit", "calls"), [(0, 1), (1, 2), (4, 5)])
def test_self_retry_brings_its_own_limit(sim, script, send, limit, calls):
    script(lambda task: task.retry(countdown=1, max_retries=limit))
    node = send()
    sim.advance(minutes=1)
    node.refresh_from_db()
    assert (node.status, len(sim.calls)) == ("failed", calls)
    assert "MaxRetriesExceeded" in node.error


def test_self_retry_with_an_error_keeps_that_error(sim, script, send):
    script(lambda task: task.retry(exc=OSError("the bank"), countdown=1))
    assert "the bank" in send().error
    sim.advance(minutes=1)
    node = Node.objects.get(task=workflows.scripted.name)
    assert (node.status, node.error) == ("failed", "OSError('the bank')")


def test_a_handler_may_catch_that_its_retries_are_exhausted(sim, script, send):
    def give_up_politely(task):
        try:
            task.retry(countdown=1, max_retries=1)
        except MaxRetriesExceededError:
            return "gave up"

    script(give_up_politely)
    node = send()
    sim.advance(seconds=10)
    node.refresh_from_db()
    assert (node.status, node.result) == ("complete", "gave up")


def test_self_retry_without_throw_retries_at_the_end(sim, script, send):
    after = []

    def work(task):
        if task.request.retries == 0:
            assert isinstance(task.retry(countdown=9, throw=False), Retry)
            after.append("went on")

    script(work)
    assert send().fires_at == sim.now + timedelta(seconds=9)
    assert after == ["went on"]


def test_self_retry_keeps_no_children_either(script, send):
    def work(task):
        current_node().spawn(workflows.done.s())
        task.retry(countdown=9)

    script(work)
    assert not send().children.exists()


@pytest.mark.parametrize("wait", [float("inf"), 1e15, float("nan"), "soon", -5])
def test_a_wait_that_makes_no_sense_does_not_leave_the_node_running(script, send, wait):
    script(lambda task: task.retry(countdown=wait))
    assert send().status in {"retrying", "failed"}


def test_request_retries_counts_failures_and_not_lost_attempts(sim, script, send):
    seen = []

    def work(task):
        seen.append((task.request.retries, current_node().attempt))
        if len(seen) == 1:
            raise RuntimeError

    script(work)
    sim.kill_next("before_handler")
    node = send()
    sim.advance(minutes=2)
    node.refresh_from_db()
    assert seen == [(0, 2), (1, 3)]
    assert (node.retries, node.attempt, node.status) == (1, 3, "complete")


def test_a_retry_waits_through_a_closed_broker(sim, script, send):
    script(lambda task: task.request.retries or fail(task))
    node = send()
    sim.lose_messages()
    sim.advance(minutes=2)
    node.refresh_from_db()
    assert node.status == "complete"


def test_a_failed_node_holds_what_is_behind_it_and_no_other_workflow(sim, send):
    send(workflows.fatal.s(), name="w")
    behind = send(workflows.done.s(), name="w")
    other = send(workflows.done.s(), name="v")
    assert (behind.status, other.status) == ("ready", "complete")


def test_a_failure_never_climbs(sim, run_tree):
    node = run_tree({"shape": {"spawn": [{"shape": {"fail_until": 99}}]}})
    sim.advance(days=1)
    node.refresh_from_db()
    child = node.children.get()
    assert (node.status, child.status) == ("waiting", "waiting")
    assert child.children.get().status == "failed"


# Limits of one call -----------------------------------------------------------------------


@pytest.fixture
def made(sim, script):
    """Make a node of the scripted task in one of the ways that take options."""

    def make(way, signature, **options):
        if way == "signal":
            return signal(signature, subject="camera", **options)
        if way == "signal_many":
            return signal_many([(signature, {"subject": "camera", **options})])[0]
        parent = signal(workflows.scripted.s("parent"), subject="camera", delay=1)
        if way == "workflow.signal":
            return parent.workflow.signal(signature, mode="non_blocking", **options)
        if way == "add_child":
            return parent.add_child(signature, **options)

        def spawn(task):
            if way == "spawn":
                current_node().spawn(signature, **options)
            else:
                current_node().spawn_many([signature], **options)

        script(spawn, name="parent")
        sim.advance(seconds=1)
        return parent.children.get()

    script(lambda task: None, name="parent")
    return make


WAYS = ["signal", "signal_many", "workflow.signal", "add_child", "spawn", "spawn_many"]


@pytest.mark.parametrize("limit", [0, 1, 4])
@pytest.mark.parametrize("way", WAYS)
def test_a_limit_of_one_node_goes_before_its_tasks(sim, script, made, way, limit):
    script(fail)
    node = made(way, workflows.scripted.s(), max_retries=limit)
    sim.advance(hours=1)
    node.refresh_from_db()
    assert (node.status, node.retries, node.attempt) == ("failed", limit + 1, limit + 1)


def test_none_is_no_limit_of_its_own(sim, script, send):
    script(fail)
    node = send(max_retries=None)
    sim.advance(hours=1)
    node.refresh_from_db()
    assert (node.status, node.attempt) == ("failed", 3)


def test_it_holds_for_each_task_of_a_canvas(sim, script, send):
    script(fail)
    node = send(group(workflows.scripted.s(), workflows.scripted.s()), max_retries=0)
    assert [child.status for child in node.children.all()] == ["failed", "failed"]


def test_it_holds_for_each_node_of_a_bundle(sim, script):
    script(lambda task, number: fail(task), name="bundled")
    limits = [0, 1, None]
    nodes = signal_many(
        (workflows.bundled.s(n), {"subject": str(n), "max_retries": limit})
        for n, limit in enumerate(limits)
    )
    sim.advance(hours=1)
    for node in nodes:
        node.refresh_from_db()
    assert [(node.status, node.attempt) for node in nodes] == [
        ("failed", 1),
        ("failed", 2),
        ("failed", 3),
    ]


@pytest.mark.parametrize(("limit", "calls"), [(0, 1), (1, 2), (4, 5)])
def test_self_retry_goes_before_the_limit_of_the_node(sim, script, send, limit, calls):
    script(lambda task: task.retry(countdown=1, max_retries=limit))
    node = send(max_retries=2)
    sim.advance(minutes=1)
    node.refresh_from_db()
    assert (node.status, len(sim.calls)) == ("failed", calls)


@pytest.mark.parametrize(("limit", "calls"), [(0, 1), (5, 6), (None, 4)])
def test_self_retry_of_a_task_that_is_no_node_task_has_the_nodes_limit(
    sim, script, send, limit, calls
):
    script(lambda task: task.retry(countdown=1))
    node = send(workflows.scripted_plain, max_retries=limit)
    sim.advance(minutes=1)
    node.refresh_from_db()
    assert (node.status, len(sim.calls)) == ("failed", calls)


@pytest.mark.parametrize(("limit", "calls"), [(0, 1), (3, 4), (None, 2)])
def test_autoretry_for_has_the_nodes_limit(sim, send, limit, calls):
    node = send(workflows.plain_autoretry.s(99), max_retries=limit)
    sim.advance(minutes=5)
    node.refresh_from_db()
    assert (node.status, len(sim.calls)) == ("failed", calls)


def test_a_report_from_outside_follows_the_nodes_limit(sim, script, send):
    script(lambda task: None)
    node = send(workflows.scripted_awaiting, max_retries=0)
    node.fail("the bank says no")
    assert node.status == "failed"


def test_the_sweeper_follows_the_nodes_limit(sim, script, send):
    script(lambda task: None)
    node = send(workflows.scripted_awaiting, max_retries=0)
    sim.advance(seconds=620)
    node.refresh_from_db()
    assert (node.status, node.attempt) == ("failed", 1)


@pytest.mark.parametrize("limit", [-1, 1.5, "3", True, float("inf"), object()])
def test_a_limit_that_is_none_is_refused(sim, limit):
    with pytest.raises(BadInput, match="max_retries"):
        signal(workflows.done.s(), subject="camera", max_retries=limit)
    assert not Node.objects.exists()

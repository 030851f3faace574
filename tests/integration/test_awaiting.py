"""Nodes that await completion: their handler returns, and their outcome comes later."""

from __future__ import annotations

from uuid import uuid4

import pytest
from celery.exceptions import Ignore
from django.contrib.auth.models import User
from django.db import transaction

from backbeat_celery import current_node, signal
from backbeat_celery.engine.claim import NodeMessage
from backbeat_celery.engine.repair import worker_events
from backbeat_celery.exceptions import (
    BadInput,
    BadPayload,
    InvalidTransition,
    StaleAttempt,
)
from backbeat_celery.models import Node
from backbeat_celery.states import Status
from tests import workflows

STATUSES = [status for status in Status if status != "running"]
SPAWNS = [{"key": "a"}, {"mode": "non_blocking"}, {"barrier": True}]


@pytest.fixture
def held(script, send):
    """A node whose handler has returned, with children if asked for."""

    def hold(*children, task=workflows.scripted_awaiting, **options):
        def work(_):
            for child in children:
                current_node().spawn(workflows.done.s(), **child)
            return object()  # of no interest to anybody

        script(work)
        node = send(task, **options)
        assert (node.status, node.lease_expires_at) == ("running", None)
        return node

    return hold


def reported(sim, node):
    sim.run()
    node.refresh_from_db()
    return node.status


def test_the_handlers_return_does_not_complete_it_and_successors_wait(sim, held):
    node = held()
    behind = signal(workflows.done.s(), subject="camera", name=node.workflow.name)
    sim.advance(seconds=300)
    node.refresh_from_db()
    behind.refresh_from_db()
    assert (node.status, node.attempt, node.result, behind.status) == ("running", 1, None, "ready")
    node.complete()
    sim.run()
    behind.refresh_from_db()
    assert (reported(sim, node), node.outcome, behind.status) == (
        "complete",
        "succeeded",
        "complete",
    )


def test_completed_later_its_children_run_in_order_and_then_its_siblings(sim, held, statuses):
    node = held(*SPAWNS)
    behind = signal(workflows.done.s("behind"), subject="camera", name=node.workflow.name)
    sim.advance(seconds=500)
    assert statuses(node) == ["pending"] * 3
    node.complete({"paid": 5})
    node.refresh_from_db()
    assert (node.status, node.result) == ("waiting", {"paid": 5})
    assert reported(sim, node) == "complete"
    order = [call.node_id for call in sim.calls]
    children = list(node.children.order_by("seq").values_list("pk", flat=True))
    assert order == [node.pk, *children, behind.pk]
    assert [a.outcome for a in node.attempts] == ["succeeded"]


def test_the_history_tells_who_reported_and_why(sim, held):
    node = held()
    node.complete(by=User(username="ada"), reason="the bank called")
    node.refresh_from_db()
    last = node.history[-1]
    assert (last.to_status, last.actor, last.reason) == ("complete", "ada", "the bank called")
    assert [row.to_status for row in node.history] == ["queued", "running", "complete"]


def test_a_failure_from_outside_is_retried_as_the_task_says(sim, held, statuses):
    node = held(*SPAWNS)
    node.fail("declined", by="bank", reason="limit")
    node.refresh_from_db()
    assert (node.status, node.retries, node.error) == ("retrying", 1, "declined")
    assert statuses(node) == ["canceled"] * 3
    assert (node.history[-1].actor, node.history[-1].reason) == ("bank", "failed; retry 1; limit")
    sim.advance(seconds=10)
    node.refresh_from_db()
    assert (node.status, node.attempt, node.lease_expires_at) == ("running", 2, None)
    node.complete()
    assert reported(sim, node) == "complete"
    assert statuses(node) == ["canceled"] * 3 + ["complete"] * 3
    assert [a.outcome for a in node.attempts] == ["failed", "succeeded"]


def test_failures_from_outside_exhaust_the_retries(sim, held):
    node = held()
    for _ in range(3):
        node.fail("no")
        sim.advance(minutes=2)
    node.refresh_from_db()
    assert (node.status, node.retries, node.attempt) == ("failed", 3, 3)


def test_an_exception_is_reported_with_its_traceback_and_its_type_counts(sim, held):
    node = held()
    try:
        raise ValueError("no use to try again")
    except ValueError as exc:
        node.fail(exc)
    node.refresh_from_db()
    assert (node.status, node.error) == ("failed", "ValueError('no use to try again')")
    assert "raise ValueError" in node.attempts[0].traceback


def test_nobody_reports_and_the_timeout_counts_from_the_start(sim, held, statuses):
    node = held({"key": "a"})
    sim.advance(seconds=595)
    node.refresh_from_db()
    assert node.status == "running"
    sim.advance(seconds=10)
    node.refresh_from_db()
    assert (node.status, node.retries) == ("retrying", 1)
    assert [a.outcome for a in node.attempts] == ["timed_out"]
    assert statuses(node) == ["canceled"]
    sim.advance(seconds=10)
    node.complete()
    assert reported(sim, node) == "complete"


def test_a_report_after_the_timeout_is_refused(sim, held):
    node = held()
    sim.advance(seconds=605)
    with pytest.raises(InvalidTransition):
        node.complete(attempt=1)
    sim.advance(seconds=10)
    with pytest.raises(StaleAttempt) as caught:
        node.complete(attempt=1)
    assert (caught.value.current, caught.value.attempted) == ("running", "complete")
    node.complete("second", attempt=2)
    assert (reported(sim, node), node.result) == ("complete", "second")


@pytest.mark.parametrize("verb", ["complete", "fail"])
def test_a_report_while_the_handler_runs_is_kept_for_its_record(sim, script, send, statuses, verb):
    def work(_):
        if current_node().attempt == 1:
            node = Node.objects.get(pk=current_node().id)
            report(node)
            node.refresh_from_db()
            assert node.status == "running"
            assert node.report is not None
            with pytest.raises(InvalidTransition, match="already"):
                report(node)
        current_node().spawn(workflows.done.s(), key="child")

    def report(node):
        if verb == "complete":
            node.complete(41, by="ada", reason="early")
        else:
            node.fail("early", by="ada", reason="early")

    script(work)
    node = send(workflows.scripted_awaiting)
    assert node.report is None
    if verb == "complete":
        assert (node.status, node.result, statuses(node)) == ("complete", 41, ["complete"])
    else:
        assert (node.status, node.error, statuses(node)) == ("retrying", "early", [])
    (said,) = [row.reason for row in node.history if row.actor == "ada"]
    assert said.endswith("early")


def test_the_handlers_own_failure_counts_more_than_a_report(sim, script, send):
    def work(_):
        if current_node().attempt == 1:
            Node.objects.get(pk=current_node().id).complete("early")
            raise RuntimeError("after the report")

    script(work)
    node = send(workflows.scripted_awaiting)
    assert (node.status, node.report, node.result) == ("retrying", None, None)
    sim.advance(seconds=10)
    node.refresh_from_db()
    assert (node.status, node.attempt) == ("running", 2)


def test_ignore_means_that_there_is_nothing_to_await(script, send):
    def work(_):
        current_node().spawn(workflows.done.s())
        raise Ignore

    script(work)
    node = send(workflows.scripted_awaiting)
    assert (node.status, node.children.get().status) == ("complete", "complete")


def test_a_report_counts_even_if_the_handler_ignores(script, send):
    def work(_):
        Node.objects.get(pk=current_node().id).complete("said")
        raise Ignore

    script(work)
    node = send(workflows.scripted_awaiting)
    assert (node.status, node.result) == ("complete", "said")


def test_children_from_outside_survive_the_failure(sim, held, statuses):
    node = held({"key": "a"})
    outside = node.add_child(workflows.done.s("outside"), key="b")
    below = Node.objects.get(key="a").add_child(workflows.done.s())
    assert outside.status == "pending"
    node.fail("no")
    below.refresh_from_db()
    assert (statuses(node), below.status) == (["canceled", "pending"], "canceled")
    sim.advance(seconds=10)
    node.complete()
    assert reported(sim, node) == "complete"
    assert statuses(node) == ["canceled", "complete", "complete"]
    assert list(node.children.order_by("seq").values_list("key", flat=True)) == [None, "b", "a"]


def test_a_barrier_that_the_failed_attempt_leaves_holds_nobody(sim, held):
    node = held({"mode": "non_blocking"}, {"barrier": True})
    node.add_child(workflows.done.s(), barrier=True)
    node.fail("no")
    sim.advance(seconds=10)
    node.complete()
    assert reported(sim, node) == "complete"


def test_added_from_outside_while_it_awaits_is_waited_for(sim, held):
    node = held()
    child = node.add_child(workflows.done.s())
    node.complete()
    node.refresh_from_db()
    child.refresh_from_db()
    assert (node.status, child.status) == ("waiting", "queued")
    assert reported(sim, node) == "complete"


def test_a_flag_among_the_children_completes_with_the_report(sim, script, send):
    def work(_):
        current_node().flag("f")
        current_node().spawn(workflows.done.s())

    script(work)
    node = send(workflows.scripted_awaiting)
    node.complete()
    assert reported(sim, node) == "complete"


@pytest.mark.parametrize("point", ["before_handler", "in_handler", "after_handler"])
def test_a_worker_that_dies_before_the_record_loses_the_attempt(sim, script, send, point):
    script(lambda _: current_node().spawn(workflows.done.s()) and None)
    sim.kill_next(point)
    node = send(workflows.scripted_awaiting)
    sim.advance(seconds=40)
    node.refresh_from_db()
    assert (node.status, node.attempt, node.lease_expires_at) == ("running", 2, None)
    assert node.children.count() == 1


def test_a_worker_that_dies_after_the_record_is_not_missed(sim, script, send):
    script(lambda _: None)
    sim.kill_next("after_record")
    node = send(workflows.scripted_awaiting)
    message = NodeMessage(node.pk, node.task, 1, "default", node.claim_id)
    worker_events.renew([message])
    worker_events.worker_lost(message)
    worker_events.hard_time_limit(message)
    sim.advance(seconds=500)
    node.refresh_from_db()
    assert (node.status, node.attempt, node.lease_expires_at) == ("running", 1, None)
    node.complete()
    assert reported(sim, node) == "complete"


@pytest.mark.parametrize("early", [False, True])
def test_an_atomic_handler_commits_its_writes_before_the_report(sim, script, send, early):
    def work(_):
        User.objects.create(username="written")
        current_node().spawn(workflows.done.s())
        if early:
            Node.objects.get(pk=current_node().id).complete("early")

    script(work)
    node = send(workflows.scripted_awaiting_atomic)
    assert User.objects.filter(username="written").count() == 1
    assert node.status == ("complete" if early else "running")
    if not early:
        node.complete()
        assert reported(sim, node) == "complete"


def test_a_pause_does_not_hold_up_a_report(sim, held):
    node = held({})
    node.workflow.pause()
    node.complete()
    assert reported(sim, node) == "waiting"
    assert node.children.get().status == "paused"
    node.workflow.resume()
    assert reported(sim, node) == "complete"


def test_canceled_while_it_awaits_it_takes_no_report(held, statuses):
    node = held(*SPAWNS)
    node.cancel(by="ada")
    assert statuses(node) == ["canceled"] * 3
    assert [a.outcome for a in node.attempts] == ["canceled"]
    with pytest.raises(InvalidTransition):
        node.complete()


def test_reset_while_it_awaits_it_goes_on_without_its_children(sim, held, statuses):
    node = held(*SPAWNS)
    node.reset()
    assert (node.status, statuses(node)) == ("running", ["canceled"] * 3)
    node.complete()
    assert reported(sim, node) == "complete"


@pytest.mark.parametrize(("verb", "outcome"), [("resolve", "resolved"), ("retry", "succeeded")])
def test_failed_from_outside_it_is_steered_like_any_other(sim, held, statuses, verb, outcome):
    node = held({"key": "a"})
    node.fail(ValueError("final"))
    getattr(node, verb)()
    sim.run()
    node.refresh_from_db()
    if verb == "retry":
        assert (node.status, node.attempt) == ("running", 2)
        node.complete()
    assert reported(sim, node) == "complete"
    assert node.outcome == outcome
    assert statuses(node) == ["canceled"] + ["complete"] * (verb == "retry")


@pytest.mark.parametrize("result", [{1}, float("nan"), "x" * 300_000])
def test_a_result_that_cannot_be_kept_is_refused_and_changes_nothing(held, result):
    node = held()
    with pytest.raises(BadPayload, match="The result"):
        node.complete(result)
    node.refresh_from_db()
    assert (node.status, node.history[-1].to_status) == ("running", "running")


def test_a_result_of_the_largest_size_is_kept_too(script, send, settings):
    settings.BACKBEAT = {"MAX_PAYLOAD": 100}
    script(lambda _: Node.objects.get(pk=current_node().id).complete("x" * 98, reason="y" * 999))
    node = send(workflows.scripted_awaiting)
    assert (node.status, node.result) == ("complete", "x" * 98)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [((7,), {}), (("no",), {"by": 7}), (("no",), {"reason": 7})],
)
def test_odd_arguments_are_refused(held, arguments, options):
    node = held()
    with pytest.raises(BadInput):
        node.fail(*arguments, **options)
    node.refresh_from_db()
    assert node.status == "running"


@pytest.mark.parametrize("error", ["", "\x00", "ä" * 100_000, BaseException()])
def test_odd_errors_are_kept_as_text(held, error):
    node = held()
    node.fail(error)
    node.refresh_from_db()
    assert node.status == "retrying"
    assert 0 < len(node.error) <= 16 * 1024 + 1


@pytest.mark.parametrize("verb", ["complete", "fail"])
@pytest.mark.parametrize(
    "status", ["queued", "retrying", "complete", "failed", "waiting", "ready"]
)
def test_only_a_running_node_takes_a_report(sim, held, verb, status):
    node = {
        "pending": lambda: held().add_child(workflows.awaiting.s()),
        "queued": lambda: signal(workflows.awaiting.s(), subject="b", delay=60),
        "paused": lambda: _paused(sim),
        "canceled": lambda: _after(held(), "cancel"),
        "ready": lambda: [
            signal(workflows.awaiting.s(), subject="b", delay=60, name="w"),
            signal(workflows.awaiting.s(), subject="b", name="w"),
        ][1],
        "retrying": lambda: _after(held(), "fail", "no"),
        "failed": lambda: _after(held(), "fail", ValueError("no")),
        "complete": lambda: _after(held(), "complete"),
        "waiting": lambda: _after(held({"delay": 60}), "complete"),
    }[status]()
    before = Node.objects.filter(pk=node.pk).values().get()
    history = len(node.history)
    with pytest.raises(InvalidTransition) as caught:
        getattr(node, verb)("x")
    assert (caught.value.current, caught.value.attempted) == (status, verb)
    assert caught.value.node_id == node.pk
    assert Node.objects.filter(pk=node.pk).values().get() == before
    assert len(node.history) == history


def _paused(sim):
    node = signal(workflows.awaiting.s(), subject="b")
    node.workflow.pause()
    sim.run()
    node.refresh_from_db()
    return node


def _after(node, verb, *arguments):
    getattr(node, verb)(*arguments)
    node.refresh_from_db()
    return node


def test_an_ordinary_running_node_takes_no_report(script, send):
    def work(_):
        with pytest.raises(InvalidTransition, match="awaits_completion"):
            Node.objects.get(pk=current_node().id).complete()
        return "mine"

    script(work)
    assert send(workflows.scripted).result == "mine"


def test_the_root_takes_no_report(held):
    root = held().workflow.root
    with pytest.raises(InvalidTransition):
        root.complete()


def test_a_report_in_a_transaction_that_is_rolled_back_never_was(sim, held):
    node = held({})
    with transaction.atomic():
        node.complete()
        transaction.set_rollback(True)
    node.refresh_from_db()
    assert (node.status, node.children.get().status) == ("running", "pending")
    node.complete()
    assert reported(sim, node) == "complete"


def test_progress_stays_visible_while_it_awaits(script, send):
    def work(_):
        for done in range(1, 30):
            current_node().progress(done, 30, "asked")

    script(work)
    node = send(workflows.scripted_awaiting)
    assert (node.status, node.progress["done"]) == ("running", 29)


def test_messages_doubled_and_lost_make_one_attempt(sim, script):
    script(lambda _: None)
    node = signal(workflows.scripted_awaiting.s(), subject="camera")
    sim.duplicate_messages()
    sim.run()
    sim.advance(minutes=5)
    node.refresh_from_db()
    assert (node.status, node.attempt, len(sim.calls)) == ("running", 1, 1)
    assert sim.in_flight == 0


def test_a_claim_id_of_another_attempt_renews_nothing(held):
    node = held()
    worker_events.renew([NodeMessage(node.pk, node.task, 1, "default", uuid4())])
    node.refresh_from_db()
    assert node.lease_expires_at is None

"""Reports from outside race with the handler's end, the timeout, a cancel, and each other."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest
from django.utils import timezone

from backbeat_celery import complete_by_token, signal
from backbeat_celery.engine.advance import advance
from backbeat_celery.engine.claim import NodeMessage
from backbeat_celery.engine.outcomes import Failed, Succeeded
from backbeat_celery.engine.record import record
from backbeat_celery.engine.repair import worker_events
from backbeat_celery.engine.repair.sweep import Sweep
from backbeat_celery.exceptions import InvalidTransition, StaleAttempt
from backbeat_celery.inputs import tokens
from backbeat_celery.inputs.canvas import task_spec
from backbeat_celery.models import Attempt, Node
from backbeat_celery.runtime.lock_timeouts import RowLocked
from tests import workflows
from tests.races.threads import (
    DEADLINE,
    RACES,
    held_open,
    repeated,
    start,
    together,
    wait_until_blocked,
)
from tests.races.worker import status, succeed, taken, times

pytestmark = RACES
PAST = timezone.now() - timedelta(hours=1)
REPEATED = repeated(10)
KEYED = {"key": "child"}


def _sweep():
    return Sweep("default").run()


def _awaiting():
    """A claimed node that awaits completion, and another one behind it."""
    node = signal(workflows.awaiting.s(), subject="camera", name="w")
    signal(workflows.done.s(), subject="camera", name="w")
    return node, taken(node)


def _held(*children):
    node, mine = _awaiting()
    succeed(mine, *children)
    node.refresh_from_db()
    assert (node.status, node.lease_expires_at) == ("running", None)
    return node, mine


def _accepted(verb):
    """Whether a report is accepted."""
    try:
        verb()
    except InvalidTransition:
        return False
    return True


def _fresh(node):
    return Node.objects.get(pk=node.pk)


def _finish(node):
    """Complete what is left, so that the invariants hold at the end."""
    for child in node.children.filter(status="queued").order_by("seq"):
        succeed(taken(child))
    return status(node)


@REPEATED
@pytest.mark.parametrize("verb", ["complete", "fail"])
def test_a_report_at_the_handlers_end_is_neither_lost_nor_doubled(stops, verb, repetition):
    node, mine = _awaiting()
    arguments = ["said"]
    together(lambda: succeed(mine, KEYED), lambda: getattr(_fresh(node), verb)(*arguments))
    node.refresh_from_db()
    if verb == "fail":
        assert (node.status, node.error, node.retries) == ("retrying", "said", 1)
        assert not node.children.exclude(status="canceled").exists()
    else:
        assert (node.status, node.result) == ("waiting", "said")
        assert _finish(node) == "complete"
    assert Attempt.objects.filter(node=node).count() == 1


@pytest.mark.parametrize("verb", ["complete", "fail"])
def test_a_report_that_waits_for_the_record_finds_the_handler_gone(stops, verb):
    node, mine = _awaiting()
    with held_open(lambda: succeed(mine, KEYED)):
        report = start(lambda: getattr(_fresh(node), verb)("said"), "report")
        wait_until_blocked()
    report.result(DEADLINE)
    assert status(node) == ("waiting" if verb == "complete" else "retrying")
    _finish(node)


@pytest.mark.parametrize("verb", ["complete", "fail"])
def test_a_record_that_waits_for_the_report_applies_it(stops, verb):
    node, mine = _awaiting()
    with held_open(lambda: getattr(_fresh(node), verb)("said")):
        end = start(lambda: succeed(mine, KEYED), "end")
        wait_until_blocked()
    end.result(DEADLINE)
    assert status(node) == ("waiting" if verb == "complete" else "retrying")
    assert node.children.count() == (1 if verb == "complete" else 0)
    _finish(node)


def test_a_failure_of_the_handler_that_waits_for_the_report_counts(stops):
    node, mine = _awaiting()
    with held_open(lambda: _fresh(node).complete("said")):
        end = start(lambda: record(mine, Failed("raised")), "end")
        wait_until_blocked()
    end.result(DEADLINE)
    node.refresh_from_db()
    assert (node.status, node.error, node.report, node.result) == (
        "retrying",
        "raised",
        None,
        None,
    )


@REPEATED
def test_of_many_reports_one_is_accepted(stops, outbox, repetition):
    node, mine = _held(KEYED)
    token = tokens.sign(tokens.Ticket("default", node.pk, 1, mine.claim_id))
    reports = [
        lambda: _accepted(lambda: _fresh(node).complete("a")),
        lambda: _accepted(lambda: _fresh(node).fail("b")),
        lambda: _accepted(lambda: _fresh(node).complete("c", attempt=1)),
        lambda: _accepted(lambda: complete_by_token(token, "d")),
    ]
    assert together(*reports).count(True) == 1
    assert Attempt.objects.filter(node=node).count() == 1
    _finish(node)


def test_of_two_kept_reports_the_first_counts(stops):
    node, mine = _awaiting()
    with held_open(lambda: _fresh(node).complete("first")):
        second = start(lambda: _fresh(node).complete("second"), "second")
        wait_until_blocked()
    with pytest.raises(InvalidTransition, match="already"):
        second.result(DEADLINE)
    succeed(mine)
    assert _fresh(node).result == "first"


@REPEATED
def test_a_report_at_the_timeout_is_accepted_or_refused_whole(stops, repetition):
    node, _ = _held(KEYED)
    Node.objects.filter(pk=node.pk).update(times_out_at=PAST)
    accepted, _ = together(lambda: _accepted(lambda: _fresh(node).complete("said")), _sweep)
    node.refresh_from_db()
    assert (node.status, node.result) == (("waiting", "said") if accepted else ("retrying", None))
    assert node.children.get().status == ("queued" if accepted else "canceled")
    _finish(node)


def test_a_report_that_waits_for_the_timeout_is_stale(stops):
    node, mine = _held(KEYED)
    token = tokens.sign(tokens.Ticket("default", node.pk, 1, mine.claim_id))
    Node.objects.filter(pk=node.pk).update(times_out_at=PAST)
    with held_open(_sweep):
        report = start(lambda: complete_by_token(token), "report")
        wait_until_blocked()
    with pytest.raises(StaleAttempt):
        report.result(DEADLINE)
    assert (status(node), node.children.get().key) == ("retrying", None)


@REPEATED
def test_the_timeout_at_the_handlers_end_leaves_no_pending_child(stops, repetition):
    node, mine = _awaiting()
    Node.objects.filter(pk=node.pk).update(times_out_at=PAST)
    together(lambda: _accepted(lambda: succeed(mine, KEYED)), _sweep)
    assert status(node) in {"running", "retrying"}
    _sweep()
    assert status(node) == "retrying"
    assert not node.children.exclude(status="canceled").exists()


@REPEATED
def test_a_report_against_a_cancel(stops, repetition):
    node, _ = _held(KEYED)
    accepted, canceled = together(
        lambda: _accepted(lambda: _fresh(node).complete("said")),
        lambda: _accepted(lambda: _fresh(node).cancel()),
    )
    assert canceled  # a node that waits for its child may be canceled, too
    assert status(node) == "canceled"
    assert node.children.get().status == "canceled"
    assert times(node, "waiting") == accepted


@REPEATED
def test_a_report_against_a_child_from_outside(stops, repetition):
    """The child is waited for or refused, and never forgotten."""
    node, _ = _held()
    _, added = together(
        lambda: _fresh(node).complete("said"),
        lambda: _accepted(lambda: _fresh(node).add_child(workflows.done.s())),
    )
    assert status(node) == ("waiting" if added else "complete")
    assert _finish(node) == "complete"


@REPEATED
def test_a_child_from_outside_against_the_handlers_end(stops, repetition):
    node, mine = _awaiting()
    together(lambda: succeed(mine, {}), lambda: _fresh(node).add_child(workflows.done.s()))
    assert list(node.children.values_list("status", flat=True)) == ["pending", "pending"]
    _fresh(node).complete()
    for _ in range(2):
        _finish(node)
    assert status(node) == "complete"


def _died(message):
    """Tell of a dead worker, once: the one who renews or records may hold the row."""
    with suppress(RowLocked):
        worker_events.worker_lost(message)


@REPEATED
def test_a_renewal_puts_no_lease_back(stops, repetition):
    node, mine = _awaiting()
    message = NodeMessage(node.pk, node.task, 1, "default", mine.claim_id)
    accepted, *_ = together(
        lambda: _accepted(lambda: succeed(mine)),
        lambda: worker_events.renew([message]),
        lambda: _died(message),
    )
    node.refresh_from_db()
    assert (node.status, node.lease_expires_at) == ("running" if accepted else "queued", None)


def test_a_handlers_end_that_waits_for_its_loss_is_stale(stops):
    node, mine = _awaiting()
    message = NodeMessage(node.pk, node.task, 1, "default", mine.claim_id)
    with held_open(lambda: worker_events.worker_lost(message)):
        end = start(lambda: succeed(mine), "end")
        wait_until_blocked()
    with pytest.raises(StaleAttempt):
        end.result(DEADLINE)
    assert status(node) == "queued"


def test_a_renewal_beside_the_handlers_end_does_not_wait_and_renews_nothing(stops):
    node, mine = _awaiting()
    message = NodeMessage(node.pk, node.task, 1, "default", mine.claim_id)
    with held_open(lambda: succeed(mine)):
        start(lambda: worker_events.renew([message]), "renewal").result(DEADLINE)
    node.refresh_from_db()
    assert (node.status, node.lease_expires_at) == ("running", None)


@REPEATED
def test_siblings_reported_at_once_are_joined_once(stops, outbox, repetition):
    parent = signal(workflows.done.s(), subject="camera")
    mine = taken(parent)
    mine.specs += [task_spec(workflows.awaiting.s(), mode="non_blocking") for _ in range(6)]
    advance(record(mine, Succeeded()), "default")
    children = list(parent.children.order_by("seq"))
    for child in children:
        succeed(taken(child))
    together(*[lambda child=child: _fresh(child).complete() for child in children])
    assert (status(parent), times(parent, "complete")) == ("complete", 1)

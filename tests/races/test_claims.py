"""One attempt runs, and only what it reports is believed."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from django.utils import timezone

from backbeat_celery import signal
from backbeat_celery.engine.repair.sweep import Sweep
from backbeat_celery.exceptions import StaleAttempt
from backbeat_celery.models import Node
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
from tests.races.worker import PARALLEL, family, status, succeed, take, taken

pytestmark = RACES
SPAWNS = pytest.mark.parametrize("spawned", [[PARALLEL], []], ids=["parent", "leaf"])
PAST = timezone.now() - timedelta(hours=1)


def _sweep() -> Counter[str]:
    return Sweep("default").run()


def test_of_two_deliveries_of_one_message_the_second_waits_and_claims_nothing(stops):
    node = signal(workflows.done.s(), subject="camera")
    with held_open(lambda: take(node)) as first:
        second = start(lambda: take(node), "second")
        wait_until_blocked()
    assert first.result() is not None
    assert second.result(DEADLINE) is None
    succeed(first.result())


@repeated(10)
def test_eight_deliveries_of_one_message_are_one_claim(stops, repetition):
    node = signal(workflows.done.s(), subject="camera")
    claims = [mine for mine in together(*[lambda: take(node)] * 8) if mine]
    assert len(claims) == 1
    node.refresh_from_db()
    assert (node.attempt, node.claim_id) == (1, claims[0].claim_id)


@SPAWNS
def test_an_attempt_that_the_sweeper_took_away_reports_in_vain(stops, spawned):
    node = signal(workflows.done.s(), subject="camera")
    stale = taken(node)
    Node.objects.filter(pk=node.pk).update(lease_expires_at=PAST)
    assert _sweep()["lost"] == 1
    current = taken(node)
    with pytest.raises(StaleAttempt):
        succeed(stale, *spawned)
    assert (status(node), node.children.count()) == ("running", 0)
    succeed(current)
    assert status(node) == "complete"


@SPAWNS
@pytest.mark.parametrize("outlived", ["lease_expires_at", "times_out_at"])
def test_a_late_report_raises_also_before_the_next_attempt(stops, outlived, spawned):
    node = signal(workflows.done.s(), subject="camera")
    stale = taken(node)
    Node.objects.filter(pk=node.pk).update(**{outlived: PAST})
    _sweep()
    with pytest.raises(StaleAttempt):
        succeed(stale, *spawned)
    assert node.children.count() == 0


@SPAWNS
def test_a_report_that_waits_for_the_sweeper_is_discarded(stops, spawned):
    node = signal(workflows.done.s(), subject="camera")
    stale = taken(node)
    Node.objects.filter(pk=node.pk).update(lease_expires_at=PAST)
    with held_open(_sweep):
        report = start(lambda: succeed(stale, *spawned), "report")
        wait_until_blocked()
    with pytest.raises(StaleAttempt):
        report.result(DEADLINE)
    assert (status(node), node.children.count()) == ("queued", 0)


@SPAWNS
@repeated(10)
def test_a_report_at_the_end_of_the_lease_is_accepted_or_discarded_whole(
    stops, repetition, spawned
):
    node = signal(workflows.done.s(), subject="camera")
    mine = taken(node)
    Node.objects.filter(pk=node.pk).update(lease_expires_at=PAST)
    accepted, _ = together(lambda: _is_accepted(mine, spawned), _sweep)
    done = "waiting" if spawned else "complete"
    expected = (done, len(spawned)) if accepted else ("queued", 0)
    assert (status(node), node.children.count()) == expected


def _is_accepted(mine, spawned) -> bool:
    try:
        succeed(mine, *spawned)
    except StaleAttempt:
        return False
    return True


@repeated(5)
def test_two_sweepers_queue_each_lost_node_once(stops, outbox, repetition):
    _, children = family(*[PARALLEL] * 20)
    for child in children:
        assert taken(child)
    Node.objects.filter(pk__in=[c.pk for c in children]).update(lease_expires_at=PAST)
    outbox.sent.clear()
    together(_sweep, _sweep, _sweep)
    found = Node.objects.filter(pk__in=[c.pk for c in children], status="queued", lost_attempts=1)
    assert found.count() == 20
    assert Counter(p.node_id for p in outbox.sent) == Counter(c.pk for c in children)


@repeated(5)
def test_two_sweepers_publish_each_node_once(stops, outbox, repetition):
    _, children = family(*[PARALLEL] * 20)
    Node.objects.filter(pk__in=[c.pk for c in children]).update(publish_at=PAST)
    outbox.sent.clear()
    together(_sweep, _sweep, _sweep)
    assert Counter(p.node_id for p in outbox.sent) == Counter(c.pk for c in children)

"""The record of a bundle locks many parents; others lock some of them, in another order."""

from __future__ import annotations

from copy import deepcopy
from uuid import uuid4

from backbeat_celery import signal, signal_many
from backbeat_celery.engine.advance import advance
from backbeat_celery.engine.bundle import claim_bundle, record_bundle
from backbeat_celery.engine.claim import NodeMessage
from backbeat_celery.engine.outcomes import Succeeded
from backbeat_celery.inputs.policy import policy_by_name
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
from tests.races.worker import status, times

pytestmark = RACES
SUBJECTS = [str(number) for number in range(8)]
TASK = workflows.bundled.name


def _signals(*numbers, subjects=SUBJECTS):
    """A blocking signal for each number in each workflow."""
    sent = []
    for number in numbers:
        sent += signal_many([(workflows.bundled.s(number), {"subject": s}) for s in subjects])
    return sent


def _claimed(nodes):
    """Claim nodes as one bundle."""
    first, *others = [node.pk for node in nodes]
    message = NodeMessage(first, TASK, 1, "default", uuid4(), tuple(others))
    claims = claim_bundle(message, worker="racer", policy=policy_by_name(TASK))
    assert len(claims) == len(nodes)
    return claims


def _end(claims):
    advance(record_bundle([(mine, Succeeded()) for mine in claims]), "default")


def test_a_node_whose_parent_is_locked_is_recorded_once_that_is_free(stops):
    nodes = _signals(0)
    claims = _claimed(nodes)
    with held_open(lambda: signal(workflows.bundled.s(1), subject=SUBJECTS[0])) as adding:
        ending = start(lambda: _end(claims), "ending")
        wait_until_blocked()
    ending.result(DEADLINE)
    assert {status(node) for node in nodes} == {"complete"}
    assert status(adding.result()) == "queued"


@repeated(10)
def test_signals_that_come_while_a_bundle_ends_are_queued_once(stops, repetition):
    claims = _claimed(_signals(0))
    backwards = SUBJECTS[::-1]
    together(lambda: _end(claims), *[lambda: _signals(1, subjects=backwards)] * 2)
    for subject in SUBJECTS:
        ended, *behind = Node.objects.filter(task=TASK, workflow__subject=subject).order_by("seq")
        assert times(ended, "complete") == 1
        assert [node.status for node in behind] == ["queued", "ready"]
        assert [times(node, "queued") for node in behind] in ([0, 0], [1, 0])


@repeated(10)
def test_two_bundles_of_the_same_parents_end_at_once(stops, repetition):
    parallel = [
        signal(workflows.bundled.s(0), subject=subject, mode="non_blocking")
        for subject in SUBJECTS
    ]
    blocking, behind = _signals(1), _signals(2)
    halves = [_claimed(parallel), _claimed(blocking[::-1])]
    together(*[lambda claims=claims: _end(claims) for claims in halves])
    assert {status(node) for node in (*parallel, *blocking)} == {"complete"}
    assert {status(node) for node in behind} == {"queued"}


@repeated(5)
def test_a_bundle_that_is_recorded_twice_at_once_counts_once(stops, repetition):
    nodes = _signals(0)
    claims = _claimed(nodes)
    behind = _signals(1)
    together(lambda: _end(deepcopy(claims)), lambda: _end(deepcopy(claims)))
    assert [times(node, "complete") for node in nodes] == [1] * len(nodes)
    assert [times(node, "queued") for node in behind] == [1] * len(behind)

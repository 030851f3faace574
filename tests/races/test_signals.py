"""Signals and workflows that are made at the same moment."""

from __future__ import annotations

import pytest
from django.db import connection
from psycopg.pq import TransactionStatus

from backbeat_celery import signal, signal_many
from backbeat_celery.engine.delivery.outbox import replaced_outbox
from backbeat_celery.models import Node, Workflow
from tests import workflows
from tests.races.threads import (
    DEADLINE,
    RACES,
    RecordingOutbox,
    held_open,
    repeated,
    start,
    together,
    wait_until_blocked,
)
from tests.races.worker import status, succeed, taken, times
from tests.statements import NEEDED

pytestmark = RACES


def _signal(subject: str = "camera", **options) -> Node:
    return signal(workflows.done.s(), subject=subject, **options)


def test_a_signal_made_while_the_one_before_completes_is_opened_by_it(stops, outbox):
    mine = taken(_signal())
    with held_open(_signal) as signalling:
        report = start(lambda: succeed(mine), "report")
        wait_until_blocked()
    report.result(DEADLINE)
    following = signalling.result()
    assert (following.status, status(following)) == ("ready", "queued")
    assert outbox.sent[-1].node_id == following.pk


def test_a_signal_that_waits_for_the_end_of_the_one_before_starts_at_once(stops, outbox):
    mine = taken(_signal())
    with held_open(lambda: succeed(mine)):
        signalling = start(_signal, "signalling")
        wait_until_blocked()
    following = signalling.result(DEADLINE)
    assert following.status == "queued"
    assert outbox.sent[-1].node_id == following.pk


@repeated(15)
def test_the_next_signal_always_starts(stops, outbox, repetition):
    mine = taken(_signal())
    _, *signals = together(lambda: succeed(mine), _signal, _signal)
    one, two = sorted(signals, key=lambda node: node.seq)
    assert (status(one), status(two)) == ("queued", "ready")
    assert [p.node_id for p in outbox.sent].count(one.pk) == 1


def test_of_two_that_open_a_workflow_the_second_waits_and_finds_it(stops):
    with held_open(lambda: Workflow.objects.for_subject("camera", "order")) as first:
        second = start(lambda: Workflow.objects.for_subject("camera", "order"), "second")
        wait_until_blocked()
    assert first.result() == second.result(DEADLINE)


@repeated(10)
def test_eight_that_open_a_workflow_get_the_same_one(stops, repetition):
    found = together(*[lambda: Workflow.objects.for_subject("camera", "order")] * 8)
    assert {workflow.pk for workflow in found} == {Workflow.objects.get().pk}
    assert Node.objects.filter(parent=None).count() == 1


@repeated(10)
def test_eight_signals_with_one_key_are_one(stops, repetition):
    nodes = together(*[lambda: _signal(key="once")] * 8)
    assert {node.pk for node in nodes} == {Node.objects.exclude(parent=None).get().pk}


@repeated(10)
def test_signals_of_one_workflow_take_places_without_gaps(stops, repetition):
    nodes = together(*[_signal] * 8)
    assert sorted(node.seq for node in nodes) == list(range(8))
    assert sorted(status(node) for node in nodes) == ["queued", *["ready"] * 7]
    assert all(times(node, "queued") == 0 for node in nodes)


def _send(*subjects: str) -> list[Node]:
    return signal_many((workflows.done.s(), {"subject": subject}) for subject in subjects)


@pytest.mark.parametrize("are_open", [True, False], ids=["open", "new"])
@repeated(10)
def test_batches_of_signals_in_crossing_order_all_arrive(stops, repetition, are_open):
    if are_open:
        _send("a", "b", "c")
    together(
        lambda: _send("a", "b", "c"),
        lambda: _send("c", "b", "a"),
        lambda: _send("b", "c", "a"),
        lambda: _send("c", "a"),
    )
    counts = [
        Node.objects.filter(workflow__subject=s, parent__isnull=False).count() for s in "abc"
    ]
    assert counts == [n + are_open for n in (4, 3, 4)]


class PreparingOutbox(RecordingOutbox):
    """Notes what is made ahead, and whether the database is at work meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared = []

    def prepare(self, publication, using):
        status = connection.connection.pgconn.transaction_status
        self.prepared.append((publication, TransactionStatus(status).name))


@NEEDED
def test_the_message_of_a_signal_is_made_while_the_signal_is_written():
    outbox = PreparingOutbox()
    with replaced_outbox(outbox):
        node, held = _signal(), _signal()
        late = _signal("lens", delay=5)
    assert [(p.node_id, at) for p, at in outbox.prepared] == [
        (node.pk, "ACTIVE"),
        (held.pk, "ACTIVE"),
    ]
    assert outbox.sent[0] is outbox.prepared[0][0]
    assert [publication.node_id for publication in outbox.sent] == [node.pk, late.pk]

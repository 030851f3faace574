"""The timeline's geometry: positions in percent, whatever the times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backbeat_celery.admin.timeline import SQUEEZED, THINNEST, Axis, draw
from backbeat_celery.models import Attempt, Node

START = datetime(2026, 11, 24, 12, tzinfo=UTC)


def at(seconds):
    return START + timedelta(seconds=seconds)


@pytest.fixture
def axis():
    return Axis(at(0), at(100))


def test_ends_and_middle(axis):
    assert [axis.x(at(s)) for s in (0, 50, 100)] == [0, 50, 100]
    assert [axis.x(at(s)) for s in (-5, 500)] == [0, 100]


def test_squeezed_gap_takes_its_share_and_the_rest_grows():
    axis = Axis(at(0), at(100), [(at(10), at(90))])
    half = 50 * (1 - SQUEEZED)
    assert axis.x(at(10)) == pytest.approx(half, abs=0.1)
    assert axis.x(at(90)) == pytest.approx(half + 100 * SQUEEZED, abs=0.1)
    assert axis.x(at(100)) == 100


def test_moments_are_still_seen(axis):
    bar = axis.bar("succeeded", at(100), at(100), "text")
    assert bar.width == THINNEST
    assert bar.x + bar.width <= 100


def test_label_is_left_out_where_it_does_not_fit(axis):
    assert axis.bar("succeeded", at(0), at(90), "", "w1@shop").label == "w1@shop"
    assert axis.bar("succeeded", at(0), at(3), "", "w1@shop").label == ""


def make(**values):
    return Node.objects.create(
        workflow_id="00000000-0000-0000-0000-000000000001",
        seq=0,
        stage=0,
        name="n",
        mode="blocking",
        parent=None,
        **values,
    )


@pytest.mark.django_db
def test_attempts_and_waits_of_a_node():
    node = make(status="retrying", attempt=2, created_at=at(0), fires_at=at(40))
    parent = make(status="waiting", created_at=at(0))
    Node.objects.filter(pk=node.pk).update(parent=parent.pk)
    node.refresh_from_db()
    for number, (start, end, outcome) in enumerate([(2, 4, "failed"), (10, 12, "lost")], 1):
        Attempt.objects.create(
            node=node,
            number=number,
            worker="w1",
            started_at=at(start),
            finished_at=at(end),
            outcome=outcome,
        )
    lane = draw([node], at(20), squeeze=False).lanes[node.pk]
    assert [bar.kind for bar in lane.bars] == ["wait", "failed", "wait", "lost", "wait"]
    assert [bar.x for bar in lane.bars] == [0, 10, 20, 50, 60]
    assert "attempt 1 on w1" in lane.text
    assert "failed after 2.0 s" in lane.text


@pytest.mark.django_db
def test_long_idle_time_can_be_squeezed():
    node = make(
        status="complete", attempt=1, created_at=at(0), started_at=at(0), finished_at=at(9000)
    )
    Attempt.objects.create(
        node=node, number=1, started_at=at(0), finished_at=at(2), outcome="succeeded"
    )
    full, squeezed = (draw([node], at(9000), squeeze=s) for s in (False, True))
    assert full.can_squeeze
    assert squeezed.can_squeeze
    assert full.lanes[node.pk].bars[0].width < 1
    assert squeezed.lanes[node.pk].bars[0].width > 90

"""`expires`: what no attempt has begun in time is canceled, with what needs its value."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from celery import chain

from backbeat_celery import NodeResult, signal
from backbeat_celery.models import Node
from backbeat_celery.testing import Simulation
from tests.integration.canvas.tasks import add, double, echo

pytestmark = pytest.mark.django_db(transaction=True)


def end_of(node: Node) -> tuple[str, str]:
    node.refresh_from_db()
    return node.status, node.history[-1].reason


@pytest.mark.parametrize(
    ("expires", "end"),
    [
        (60, ("canceled", "expired")),
        (timedelta(minutes=1), ("canceled", "expired")),
        (180, ("complete", "")),
    ],
)
def test_a_node_whose_time_comes_too_late_is_canceled(expires: Any, end: tuple[str, str]) -> None:
    with Simulation() as sim:
        node = signal(add.s(1, 2).set(countdown=120, expires=expires), subject="x")
        sim.advance(minutes=5)
        assert end_of(node) == end


def test_a_node_expires_at_its_time_and_not_when_its_turn_comes() -> None:
    with Simulation() as sim:
        signal(add.s(1, 2), subject="x", delay=3600)
        node = signal(add.s(1, 2).set(expires=60), subject="x")
        sim.advance(seconds=59)
        assert end_of(node)[0] == "ready"
        sim.advance(seconds=10)  # and the time between two sweeps
        assert end_of(node) == ("canceled", "expired")


def test_what_needs_the_value_is_canceled_and_what_does_not_goes_on() -> None:
    late = add.s(1, 2).set(countdown=120, expires=60)
    with Simulation() as sim:
        node = signal(chain(late, double.s(), echo.si("on")), subject="x")
        sim.advance(minutes=5)
        first, second, third = node.children.order_by("seq")
        assert [end_of(child) for child in (first, second)] == [("canceled", "expired")] * 2
        assert NodeResult(third.pk).get(timeout=1) == ["on"]
        assert NodeResult(first.pk).state == "REVOKED"


def test_an_expiry_that_is_over_asks_for_no_more_sweeps() -> None:
    with Simulation() as sim:
        signal(add.s(1, 2).set(expires=60), subject="x")
        sim.advance(days=365)
        assert sim._next_sweep < sim.now - timedelta(days=364)

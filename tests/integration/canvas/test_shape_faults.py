"""Canvases in the shapes of real projects, whatever happens to messages and workers."""

from __future__ import annotations

from typing import Any

import pytest

from backbeat_celery import NodeResult, signal
from backbeat_celery.testing.simulation import DeathPoint
from tests.integration.canvas import world
from tests.integration.canvas.runners import OnNodes
from tests.integration.canvas.shapes import (
    costs,
    documents,
    forms,
    harvest,
    invoices,
    pages,
    uploads,
)

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore:task_allow_error_cb_on_chord_header"),
]

CANVASES: dict[str, Any] = {
    "split": lambda: documents.split(703, 3, {7: "A-7"}),
    "mail": lambda: invoices.mail_with([1, 2], 9),
    "form": lambda: forms.submitted(5),
    "upload": lambda: uploads.checked(3, 1, ["yara", "wat"]),
    "harvest": lambda: harvest.harvested([1, 2], 8),
    "costs": lambda: costs.reported(["2030-01", "2030-02"]),
    "pages": lambda: pages.recognised("a.pdf", 3),
}

DEATHS: tuple[DeathPoint, ...] = ("after_handler", "after_record")
"""Where a death leaves something behind: an effect, or a record whose message was not sent."""


@pytest.mark.parametrize("make", CANVASES.values(), ids=CANVASES)
def test_a_canvas_that_was_signalled_is_the_callers_as_before(
    on_nodes: OnNodes, make: Any
) -> None:
    """It may be signalled again, and each of its tasks runs once for each signal."""
    canvas = make()
    before = str(canvas)
    first, second = (NodeResult(signal(canvas, subject=name).pk) for name in "ab")
    on_nodes.settle()
    assert (first.state, second.state) == ("SUCCESS", "SUCCESS")
    assert first.id != second.id
    assert str(canvas) == before
    once = len(world.notes())
    on_nodes.start(make())
    on_nodes.settle()
    assert len(world.notes()) == once + once // 2


@pytest.mark.parametrize("make", CANVASES.values(), ids=CANVASES)
def test_messages_that_are_doubled_or_lost_change_nothing(on_nodes: OnNodes, make: Any) -> None:
    sim = on_nodes.sim
    on_nodes.start(make())
    on_nodes.settle()
    once = sorted(map(str, world.notes()))
    world.clear()
    doubled = NodeResult(signal(make(), subject="doubled").pk)
    while not doubled.ready():
        sim.duplicate_messages()
        for _ in range(sim.in_flight):
            sim.step()
    on_nodes.settle()
    assert sorted(map(str, world.notes())) == once
    world.clear()
    lost = NodeResult(signal(make(), subject="lost").pk)
    while not lost.ready():
        sim.step()
        sim.lose_messages()
        sim.advance(minutes=10)
    assert sorted(map(str, world.notes())) == once
    assert (doubled.state, lost.state) == ("SUCCESS", "SUCCESS")


@pytest.mark.parametrize("point", DEATHS)
@pytest.mark.parametrize("make", CANVASES.values(), ids=CANVASES)
def test_a_worker_that_dies_in_any_of_the_tasks_is_made_good(
    on_nodes: OnNodes, make: Any, point: DeathPoint
) -> None:
    sim = on_nodes.sim
    expected = on_nodes.start(make())
    on_nodes.settle()
    calls = len(sim.calls)
    assert calls > 2
    for number in range(calls):
        result = NodeResult(signal(make(), subject=f"{number}").pk)
        for _ in range(number):
            sim.step()
        sim.kill_next(point)
        on_nodes.settle(seconds=90)
        assert result.state == "SUCCESS"
        assert result.get(timeout=1) == expected.get(timeout=1)

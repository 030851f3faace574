"""Values are read from rows, so a purge leaves every row that may still be read."""

from __future__ import annotations

from typing import Any

import pytest
from celery import chain, chord

from backbeat_celery import signal
from backbeat_celery.models import Node
from backbeat_celery.retention.purge import purge
from backbeat_celery.testing import Simulation
from tests.integration.canvas.tasks import (
    CALLS,
    Declined,
    add,
    boom,
    by_id,
    double,
    identity,
    new_style,
    note,
    total,
)
from tests.integration.canvas.test_doctor import findings

LATER = 86400 * 60


def linked() -> Any:
    signature = add.s(1, 2)
    signature.link(chain(double.s(), note.s().set(countdown=LATER)))
    return signature


@pytest.mark.parametrize("is_closed", [True, False])
@pytest.mark.parametrize(
    ("canvas", "values"),
    [
        (chord([add.s(1, 1), add.s(2, 2)], total.s().set(countdown=LATER)), {total.name: 6}),
        (
            chain(add.s(1, 1), double.s(), chain(identity.s().set(countdown=LATER), double.s())),
            {identity.name: 4},
        ),
        (linked(), {}),
        (chord([linked(), add.s(1, 1)], total.s()), {total.name: 5}),
    ],
)
def test_a_canvas_is_purged_when_all_of_it_is_old(
    canvas: Any, values: dict[str, Any], is_closed: bool, sim: Simulation
) -> None:
    CALLS.clear()
    node = signal(canvas, subject="order")
    if is_closed:
        node.workflow.close()
    sim.run()
    sim.advance(days=45)
    count = Node.objects.count()
    assert not purge(days=30)
    assert Node.objects.count() == count
    sim.advance(days=20)
    for task, value in values.items():
        assert Node.objects.get(task=task).get_result() == value
    if not values:
        assert CALLS == [("note", 6)]
    assert not purge(days=30)
    sim.advance(days=31)
    counts = purge(days=30)
    assert counts.nodes == count - (not is_closed)
    assert Node.objects.exclude(parent=None).count() == 0


def test_error_callbacks_below_what_has_gone_on_keep_its_tree(sim: Simulation) -> None:
    CALLS.clear()
    late = new_style.s().set(countdown=LATER)
    canvas = chord([add.s(1, 1), boom.s()], total.s().on_error(late).on_error(by_id.s()))
    node = signal(canvas, subject="order")
    sim.run()
    Node.objects.get(task=boom.name).resolve(result=40)
    sim.run()
    assert node.get_result() == 42
    callback = Node.objects.get(task=new_style.name)
    assert callback.parent == Node.objects.get(task=total.name)
    assert findings() == []
    sim.advance(days=45)
    assert not purge(days=30)
    sim.advance(days=20)
    (called,) = (call for call in CALLS if call[0] == "new_style")
    assert isinstance(called[2], Declined) and called[2].args == ("no money", 703)
    sim.advance(days=31)
    counts = purge(days=30)
    assert (counts.signals, Node.objects.count()) == (1, 1)

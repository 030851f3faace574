"""What Celery tests by looking into its own parts, told of nodes: seven tests for seven of its.

`tests/canvas/classes.py` names them as class C.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import chain, chord, group
from celery.canvas import StampingVisitor

from backbeat_celery import NodeResult, signal
from backbeat_celery.models import Node
from backbeat_celery.testing import Simulation
from tests.integration.canvas.tasks import (
    CALLS,
    Declined,
    add,
    boom,
    by_id,
    gives_results,
    identity,
    stamps,
    total,
)

pytestmark = pytest.mark.django_db(transaction=True)


class Stamping(StampingVisitor):
    """Stamps all signatures of a canvas."""

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"customer": "703"}


def sent(canvas: Any, sim: Simulation) -> Node:
    node = signal(canvas, subject="x")
    sim.run()
    node.refresh_from_db()
    return node


def test_results_of_a_canvas_are_plain_ids_that_a_handler_may_return(sim: Simulation) -> None:
    """`as_tuple()` is JSON, and the results that it names can be read from it again."""
    node = sent(gives_results.s(), sim)
    (last, before), members = node.get_result()
    assert json.loads(json.dumps(node.get_result())) == node.get_result()
    assert (members, before[0][1]) == (None, None)
    sim.run()
    assert (NodeResult(last).get(timeout=1), NodeResult(before[0][0]).get(timeout=1)) == (7, 2)


def test_a_message_that_is_doubled_runs_a_header_once(sim: Simulation) -> None:
    node = signal(chain(add.s(1, 1), group(identity.s(), identity.s()), total.s()), subject="x")
    sim.duplicate_messages()
    while sim.in_flight:
        sim.run()
        sim.duplicate_messages()
    assert node.get_result() == 4
    assert len(sim.calls) == 4
    assert Node.objects.filter(container="group").count() == 1


def test_the_results_of_members_are_there_although_another_one_failed(sim: Simulation) -> None:
    body = total.s()
    body.link_error(by_id.s())
    node = sent(chord([add.s(1, 2), add.s(3, 4), boom.s()], body), sim)
    result = NodeResult(node.pk)
    with pytest.raises(Declined):
        result.get(timeout=1)
    header = result.parent
    assert header is not None
    assert [member.state for member in header.results] == ["SUCCESS", "SUCCESS", "FAILURE"]
    assert [member.result for member in header.results[:2]] == [3, 7]
    assert CALLS == [("by_id", result.id)]  # noqa: SIM300


@pytest.mark.parametrize("make", [group, lambda members: chord(members, total.s())])
def test_a_generator_is_exhausted_before_anything_is_written(make: Any, sim: Simulation) -> None:
    """One signal is one transaction: no member can start before the last one is known."""
    seen = []

    def members() -> Iterator[Any]:
        for number in range(3):
            seen.append(Node.objects.count())
            yield add.s(number, 1)

    node = signal(make(members()), subject="x")
    assert set(seen) == {0}
    sim.run()
    assert node.get_result() in ([1, 2, 3], 6)


def test_every_task_of_a_canvas_sees_its_stamps(sim: Simulation) -> None:
    canvas = chain(stamps.si(), group(stamps.si(), stamps.si()), stamps.si())
    canvas.stamp(Stamping())
    assert sent(canvas, sim).get_result() == {"customer": "703"}
    header = Node.objects.get(container="group")
    assert header.get_result() == [{"customer": "703"}] * 2


def test_a_callback_that_is_linked_after_the_stamps_has_its_own(sim: Simulation) -> None:
    signature, callback = add.s(1, 1), stamps.si()
    signature.stamp(Stamping())
    callback.stamp(Stamping())
    signature.link(callback)
    sent(signature, sim)
    assert Node.objects.get(task=stamps.name).get_result() == {"customer": "703"}


def test_an_error_callback_that_is_linked_after_the_stamps_has_its_own(sim: Simulation) -> None:
    signature, callback = boom.s(), stamps.si()
    signature.stamp(Stamping())
    callback.stamp(Stamping())
    signature.link_error(callback)
    sent(signature, sim)
    assert Node.objects.get(task=stamps.name).get_result() == {"customer": "703"}

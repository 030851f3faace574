"""The ids that handlers in a canvas see, and those that the results of a canvas have."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from celery import chain, chord, group
from celery.exceptions import TaskRevokedError
from django.test.utils import CaptureQueriesContext

from backbeat_celery import NodeResult, signal
from backbeat_celery.models import Node
from backbeat_celery.testing import Simulation
from tests.integration.canvas.tasks import CALLS, add, boom, by_id, identity, ids, total

pytestmark = pytest.mark.django_db(transaction=True)


def run(canvas: Any, sim: Simulation) -> NodeResult:
    node = signal(canvas, subject="x")
    sim.run()
    return NodeResult(node.pk)


def test_a_step_of_a_chain_sees_the_first_step_and_the_one_before(sim: Simulation) -> None:
    last = run(chain(ids.si(), ids.si(), ids.si()), sim)
    assert last.parent is not None and last.parent.parent is not None
    first, middle = last.parent.parent, last.parent
    assert first.get()[1:] == [first.id, None, None]
    assert middle.get()[1:] == [first.id, first.id, None]
    assert last.get()[1:] == [first.id, middle.id, None]


def test_members_of_a_group_see_the_step_before_it_and_the_group(sim: Simulation) -> None:
    members = run(ids.si() | group(ids.si() for _ in range(3)), sim)
    assert members.parent is not None
    first = members.parent.id
    assert [value[1:] for value in members.get()] == [[first, first, members.id]] * 3


def test_a_body_sees_a_member_of_the_header_as_its_parent(sim: Simulation) -> None:
    body = run(chord([identity.si(1), identity.si(2)], ids.si()), sim)
    header = body.parent
    assert header is not None
    _, root, parent, no_group = body.get()
    assert root == header.results[0].id
    assert parent in {member.id for member in header.results}
    assert no_group is None


def test_a_member_of_a_nested_chain_sees_what_is_before_in_that_chain(sim: Simulation) -> None:
    result = run(ids.si() | group(chain(ids.si(), ids.si()), ids.si()), sim)
    assert result.parent is not None
    inner = result.results[0]
    assert inner.parent is not None
    assert inner.get()[1:] == [result.parent.id, inner.parent.id, result.id]
    assert inner.parent.get()[2] == result.parent.id


def test_ids_that_were_chosen_are_shown(sim: Simulation) -> None:
    last = run(chain(ids.si().set(task_id="one"), ids.si().set(task_id="two")), sim)
    assert last.get() == ["two", "one", "one", None]


def test_a_task_in_no_canvas_sees_the_ids_of_its_message(sim: Simulation) -> None:
    result = run(ids.si(), sim)
    own, root, _parent, no_group = result.get()
    assert result.id not in {own, root} and no_group is None


@pytest.mark.parametrize("members", [1, 3])
def test_error_callbacks_of_a_group_body_are_called_for_each_member(
    sim: Simulation, members: int
) -> None:
    canvas = chord([add.s(1, 1), boom.s()], group(total.s() for _ in range(members)))
    node = signal(canvas.clone(link_error=[by_id.s()]), subject="x")
    sim.run()
    body = NodeResult(node.pk).results
    assert sorted(CALLS) == sorted(("by_id", member.id) for member in body)


def test_nothing_is_read_for_a_handler_that_asks_for_no_id(sim: Simulation) -> None:
    from django.db import connection

    def statements(canvas: Any) -> int:
        signal(canvas, subject=str(uuid4()))
        with CaptureQueriesContext(connection) as queries:
            sim.run()
        return len(queries)

    quiet, asking = chain(identity.si(1), identity.si(1)), chain(ids.si(), ids.si())
    assert statements(quiet) < statements(asking)


def test_the_id_chosen_for_a_chain_is_that_of_its_last_step(sim: Simulation) -> None:
    node = signal(chain(add.s(1, 1), add.s(1)).clone(task_id="chosen"), subject="x")
    sim.run()
    assert NodeResult(node.pk).id == "chosen"
    assert NodeResult("chosen").get(timeout=1) == 3
    assert [n.args for n in Node.objects.filter(celery_id="chosen")] == [[1]]


def test_the_id_chosen_for_a_chord_is_that_of_the_end_of_its_body(sim: Simulation) -> None:
    canvas = chord([add.s(1, 1)], chain(total.s(), add.s(1))).clone(task_id="chosen")
    run(canvas, sim)
    assert NodeResult("chosen").get(timeout=1) == 3
    canvas = chord([add.s(1, 1)], group(total.s(), total.s(1))).clone(task_id="group")
    run(canvas, sim)
    assert NodeResult("group").get(timeout=1) == [2, 3]


def test_an_id_of_the_last_step_comes_before_that_of_its_chain(sim: Simulation) -> None:
    canvas = chain(add.s(1, 1), add.s(1).set(task_id="own")).clone(task_id="chosen")
    assert run(canvas, sim).id == "own"


def test_the_id_of_a_chain_is_that_of_a_chord_at_its_end(sim: Simulation) -> None:
    canvas = chain(add.s(1, 1), group(add.s(1), add.s(2)), total.s(), task_id="chosen")
    run(canvas, sim)
    assert NodeResult("chosen").get(timeout=1) == 7


def test_an_empty_group_is_what_became_of_it(sim: Simulation) -> None:
    node = signal(chain(identity.s(1), chord([], identity.s())), subject="order", delay=60)
    empty = Node.objects.get(container="group")
    result = NodeResult(empty.pk)
    assert not result.ready() and not result.successful()
    node.cancel()
    assert NodeResult(empty.pk).ready() and not NodeResult(empty.pk).successful()
    with pytest.raises(TaskRevokedError):
        NodeResult(empty.pk).get()


def test_a_group_of_nothing_is_successful(sim: Simulation) -> None:
    node = signal(group(), subject="order")
    sim.run()
    result = NodeResult(node.pk)
    assert result.ready() and result.successful() and result.get() == []

"""Canvases as durable trees: what Celery's forms mean, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import VERSION, chain, chord, group

from backbeat_celery import NodeResult, signal
from backbeat_celery.exceptions import BadInput, NotFinished, NoValue
from backbeat_celery.models import Node
from backbeat_celery.testing import Simulation
from tests.integration.canvas.tasks import (
    CALLS,
    Declined,
    add,
    boom,
    by_id,
    by_id_with,
    double,
    echo,
    fan_out,
    first,
    grow,
    identity,
    ignored,
    into_chord,
    new_style,
    note,
    nothing,
    replaced,
    total,
)

pytestmark = pytest.mark.django_db(transaction=True)


def value(canvas: Any, sim: Simulation) -> Any:
    node = signal(canvas, subject="x")
    sim.run()
    node.refresh_from_db()
    assert node.status == "complete", node.workflow.render()
    assert NodeResult(node.pk).get(timeout=1) == node.get_result()
    return node.get_result()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: add.s(2, 2), 4),
        (lambda: chain(add.s(2, 2)), 4),
        (lambda: chain(add.s(2, 2), add.s(8), double.s()), 24),
        (lambda: chain(add.s(2, 2), add.si(1, 1), double.s()), 4),
        (lambda: chain(nothing.s(), identity.s()), None),
        (lambda: group(add.s(i, i) for i in range(4)), [0, 2, 4, 6]),
        (lambda: group(), []),
        (lambda: chain(), None),
        (lambda: group(add.s(1, 1), group(add.s(2, 2), group(add.s(3, 3)))), [2, 4, 6]),
        (lambda: chord([add.s(i, i) for i in range(4)], total.s()), 12),
        (lambda: chord([add.s(i, i) for i in range(4)], total.s(more=1)), 13),
        (lambda: chord([], total.s()), 0),
        (lambda: chord([add.s(1, 1)], identity.s()), [2]),
        (lambda: group([add.s(1, 1)]) | identity.s(), [2]),
        (lambda: chain(group(add.s(1, 1)), identity.s()), 2),
        (lambda: add.s(1, 1) | group(add.s(1), double.s()) | total.s() | double.s(), 14),
        (lambda: group(add.s(1, 1), double.s(4)) | group(total.s(), total.s(1)), [10, 11]),
        pytest.param(
            lambda: chain(group(), add.s(1, 1), group(), double.s()),
            4,
            marks=pytest.mark.skipif(
                VERSION < (5, 7), reason="Celery below 5.7 makes a chord of an empty group"
            ),
        ),
        (lambda: chord([group(add.s(0, 1), add.s(0, 2)), add.s(0, 3)], identity.s()), [1, 2, 3]),
        (lambda: chord([add.s(1, 1) | group(add.s(1), add.s(2))], identity.s()), [[3, 4]]),
        (lambda: chord([chain(), add.s(1, 1)], identity.s()), [2]),
        (lambda: chord([add.s(1, 1)], chain(total.s(), double.s())), 4),
        (lambda: chord([add.s(1, 1)], chord([total.s(), total.s(1)], total.s())), 5),
        (lambda: add.chunks([(i, i) for i in range(5)], 2), [[0, 2], [4, 6], [8]]),
        (lambda: double.map([1, 2]), [2, 4]),
        (lambda: chain(add.s(1, 1), add.starmap([(1, 2), (3, 4)]), total.s()), 10),
        (lambda: replaced.s(3), 4),
        (lambda: chain(add.s(1, 1), replaced.s(), double.s()), 6),
        (lambda: fan_out.s(3), [1, 2, 3]),
        (lambda: chain(fan_out.s(3), total.s()), 6),
        (lambda: group(into_chord.s(2), into_chord.s(3)), [3, 6]),
        (lambda: chord([grow.s(1), grow.s(2)], identity.s()), [1, 2, 101, 102]),
    ],
)
def test_values_are_what_celery_gives(make: Any, expected: Any, sim: Simulation) -> None:
    found = value(make(), sim)
    assert (sorted(found) if expected == [1, 2, 101, 102] else found) == expected


def test_replace_outside_of_a_node_is_celerys_own(sim: Simulation) -> None:
    assert chain(replaced.s(3), double.s()).apply().get() == 8


def test_partial_arguments_reach_the_first_tasks(sim: Simulation) -> None:
    canvas = chain(group(echo.s(2), echo.s(3)), identity.s())
    assert value(canvas.clone((1,), {"k": 0}), sim) == [[[1, 2], {"k": 0}], [[1, 3], {"k": 0}]]


def test_a_canvas_is_spawned_by_a_handler(sim: Simulation) -> None:
    node = signal(identity.s(1), subject="x")
    child = node.add_child(chain(add.s(1, 1), double.s()))
    assert child.container == "chain"
    sim.run()
    child.refresh_from_db()
    assert child.get_result() == 4


def test_a_failed_member_holds_the_body_and_a_retry_lets_it_go_on(sim: Simulation) -> None:
    node = signal(chord([add.s(1, 1), boom.s()], total.s()), subject="x")
    with pytest.raises(NotFinished):
        node.get_result()
    sim.run()
    failed = Node.objects.get(status="failed")
    result = NodeResult(node.pk)
    assert result.state == "FAILURE"
    with pytest.raises(Declined, match="no money") as caught:
        result.get(timeout=1)
    assert caught.value.args == ("no money", 703)
    assert result.get(timeout=1, propagate=False).args == ("no money", 703)
    failed.resolve(result=40)
    sim.run()
    assert result.get(timeout=1) == 42


def test_links_get_the_result_and_nobody_waits_for_them(sim: Simulation) -> None:
    signature = add.s(2, 2)
    signature.link(note.s("linked"))
    signature.link(chain(double.s(), note.s()))
    assert value(signature, sim) == 4
    sim.run()
    assert sorted(CALLS, key=str) == [("note", 4, "linked"), ("note", 8)]


def test_error_callbacks_of_both_conventions_are_called_once(sim: Simulation) -> None:
    signature = (
        boom.s().on_error(by_id_with.s("stored")).on_error(new_style.s()).on_error(note.si("no"))
    )
    node = signal(signature, subject="x")
    sim.run()
    (_, request_id, exc), *rest = [call for call in CALLS if call[0] == "new_style"]
    assert not rest and request_id == str(node.pk)
    assert isinstance(exc, Declined) and exc.args == ("no money", 703)
    assert ("by_id", str(node.pk), "stored") in CALLS
    assert ("note", "no") in CALLS and len(CALLS) == 3


def test_an_error_callback_of_a_chord_is_called_once_for_many_failures(sim: Simulation) -> None:
    canvas = chord([boom.s() for _ in range(5)], total.s())
    canvas.body.link_error(by_id.s())
    node = signal(canvas, subject="x")
    sim.run()
    body = Node.objects.get(parent=node, seq=1)
    assert [("by_id", str(body.pk))] == CALLS


def test_an_error_callback_is_called_once_for_each_task_of_a_group_as_body(
    sim: Simulation,
) -> None:
    canvas = chord([boom.s(), boom.s()], group(total.s(), total.s(1)))
    canvas.body.link_error(by_id.s())
    node = signal(canvas, subject="x")
    sim.run()
    bodies = Node.objects.filter(parent__parent=node, task=total.name).order_by("seq")
    assert sorted(CALLS) == sorted(("by_id", str(body.pk)) for body in bodies)


def test_an_error_callback_that_an_inner_chord_has_as_well_is_called_once(
    sim: Simulation,
) -> None:
    inner, outer = total.s(), total.s(1)
    for body in (inner, outer):
        body.link_error(note.si("once"))
    signal(chord([chord([boom.s()], inner), add.s(1, 1)], outer), subject="x")
    sim.run()
    assert CALLS == [("note", "once")]


def test_ignore_ends_the_canvas(sim: Simulation) -> None:
    node = signal(chain(ignored.s(), add.si(1, 1), double.s()), subject="x")
    sim.run()
    assert [n.status for n in node.children.order_by("seq")] == [
        "complete",
        "canceled",
        "canceled",
    ]
    assert {t.reason for n in node.children.filter(seq=1) for t in n.history} & {"ignored"}


def test_ignore_in_a_group_leaves_the_other_members(sim: Simulation) -> None:
    body = chord([identity.s()], note.si("no"))
    canvas = chord([ignored.s(), note.si("yes"), ignored.s() | note.si("no")], body)
    node = signal(canvas, subject="x")
    sim.run()
    node.refresh_from_db()
    assert node.status == "complete", node.workflow.render()
    assert CALLS == [("note", "yes")]
    assert value(group(ignored.s(), add.s(1, 1)), sim) == [None, 2]


def test_a_canceled_member_takes_the_body_with_it(sim: Simulation) -> None:
    canvas = chain(chord([add.s(1, 1), add.s(2, 2)], total.s()), double.s(), note.si("went on"))
    node = signal(canvas, subject="x")
    member = Node.objects.filter(task=add.name, status="queued").first()
    assert member is not None
    member.cancel()
    sim.run()
    node.refresh_from_db()
    assert node.status == "complete", node.workflow.render()
    assert Node.objects.get(task=total.name).status == "canceled"
    assert CALLS == [("note", "went on")]


def test_what_was_shut_down_has_no_value(sim: Simulation) -> None:
    node = signal(chord([add.s(1, 1), boom.s()], total.s()), subject="x")
    sim.run()
    Node.objects.get(status="failed").shutdown()
    sim.run()
    assert Node.objects.get(task=total.name).status == "canceled"
    header = node.children.get(seq=0)
    assert header.status == "complete"
    for ended in (header, header.children.get(seq=1), node):
        with pytest.raises(NoValue):
            ended.get_result()


@pytest.mark.parametrize("form", ["chain", "chord"])
def test_a_canvas_that_is_too_deep_is_refused(form: str, sim: Simulation) -> None:
    canvas: Any = add.s(1, 1)
    for _ in range(150):
        canvas = (
            chord([add.si(1, 1)], canvas)
            if form == "chord"
            else group(add.si(1, 1), chain(add.si(1, 1), canvas))
        )
    with pytest.raises(BadInput, match="100 levels"):
        signal(canvas, subject="x")
    assert not Node.objects.exists()


def test_a_bad_step_is_named_by_its_place(sim: Simulation) -> None:
    with pytest.raises(BadInput, match=r"step 2 > .*header > member 2 > .*add"):
        signal(chain(add.s(1, 1), chord([add.s(1), add.s()], total.s())), subject="x")

    def broken() -> Iterator[Any]:
        yield add.s(1, 1)
        raise OSError("disk")

    with pytest.raises(BadInput, match="disk"):
        signal(group(broken()), subject="x")
    assert not Node.objects.exists()


def test_a_canvas_of_too_many_nodes_is_refused(sim: Simulation, monkeypatch: Any) -> None:
    monkeypatch.setattr("backbeat_celery.inputs.canvas.MOST_NODES", 10)
    with pytest.raises(BadInput, match="more than 10 nodes"):
        signal(group(add.s(1, 1) for _ in range(11)), subject="x")
    assert not Node.objects.exists()


def test_messages_are_small_whatever_the_canvas(sim: Simulation, monkeypatch: Any) -> None:
    """A chain of chords: in Celery each header's message has all the rest."""
    sizes: list[int] = []
    send = sim.send

    def weighed(publications: Any, using: str) -> None:
        sizes.extend(len(repr(publication)) for publication in publications)
        send(publications, using)

    monkeypatch.setattr(sim, "send", weighed)
    chords = [chord([identity.s() for _ in range(10)], first.s()) for _ in range(10)]
    assert value(chain(identity.s(1), *chords), sim) == 1
    assert len(sizes) == 1 + 10 * 11
    assert max(sizes) < 1024

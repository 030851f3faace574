"""The doctor and canvases: nothing is wrong with a healthy one, and each fault is found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from celery import chain, chord, group

from backbeat_celery import signal
from backbeat_celery.inspection.doctor import examine
from backbeat_celery.models import Node
from backbeat_celery.states import Input, Status
from backbeat_celery.testing import Simulation
from tests.integration.canvas.tasks import (
    add,
    boom,
    by_id,
    double,
    fan_out,
    grow,
    identity,
    ignored,
    into_chord,
    new_style,
    note,
    total,
)


def findings() -> list[str]:
    return [str(found) for found in examine(wait=0).findings]


def with_callbacks(signature: Any) -> Any:
    signature.link(note.s())
    signature.link(chain(double.s(), note.s()).set(countdown=60))
    return signature.on_error(by_id.s()).on_error(new_style.s())


CANVASES: dict[str, Callable[[], Any]] = {
    "chain": lambda: chain(add.s(1, 1), with_callbacks(add.s(2)), double.s()),
    "group": lambda: group(with_callbacks(add.s(i, i)) for i in range(3)),
    "chord": lambda: chord([add.s(1, 1), with_callbacks(add.s(2, 2))], with_callbacks(total.s())),
    "empty": lambda: group(),
    "empty header": lambda: chord([], total.s()),
    "nested": lambda: chain(
        add.s(1, 1), group(add.s(1), chain(double.s(), double.s())), total.s(), double.s()
    ),
    "group body": lambda: chord([add.s(1, 1)], group(total.s(), total.s(1))),
    "a failed step": lambda: chain(add.s(1, 1), with_callbacks(boom.s()), double.s()),
    "a failed member": lambda: chord(
        [add.s(1, 1), boom.s(), boom.s()],
        with_callbacks(chain(total.s(), double.s())),
    ),
    "a failed link": lambda: add.s(1, 1).on_error(by_id.s()) | link_that_fails(),
    "ignored": lambda: chord([add.s(1, 1), ignored.s()], with_callbacks(total.s())),
    "replaced": lambda: chain(fan_out.s(2), total.s()),
    "replaced by a chord": lambda: group(into_chord.s(2), into_chord.s(1)),
    "grown": lambda: chord([grow.s(1)], identity.s()),
    "delayed": lambda: chain(add.s(1, 1), add.s(1).set(countdown=60, expires=3600)),
    "expired": lambda: chain(add.s(1, 1), add.s(1).set(countdown=60, expires=5), double.s()),
    "immutable": lambda: chain(boom.s(), add.si(1, 1), double.s()),
}


def link_that_fails() -> Any:
    signature = identity.s()
    signature.link(boom.s())
    return signature


def test_canvases_are_healthy_at_every_step(sim: Simulation) -> None:
    for name, make in CANVASES.items():
        node = signal(make(), subject=name)
        signal(add.s(1, 1), name=node.workflow.name, subject=name)
    sim._commit()  # and call no handler
    assert findings() == []
    steps = 0
    while sim.step():
        steps += 1
        assert steps % 5 or findings() == []
    assert steps > 60
    sim.advance(minutes=5)
    assert findings() == []
    failed = Node.objects.filter(status="failed")
    assert sorted({*failed.values_list("workflow__subject", flat=True)}) == [
        "a failed link",
        "a failed member",
        "a failed step",
        "immutable",
    ]


@pytest.mark.parametrize("verb", ["retry", "resolve", "shutdown", "cancel", "reset"])
@pytest.mark.parametrize("name", ["a failed step", "a failed member", "immutable"])
def test_a_failed_canvas_is_healthy_after_every_verb(
    name: str, verb: str, sim: Simulation
) -> None:
    node = signal(CANVASES[name](), subject=name)
    sim.run()
    getattr(Node.objects.filter(status="failed").order_by("seq")[0], verb)()
    sim._commit()  # and call no handler
    assert findings() == [], node.workflow.render()
    sim.advance(minutes=5)
    assert findings() == [], node.workflow.render()
    for failed in Node.objects.filter(status="failed"):
        failed.resolve(result=1)
    sim.run()
    assert findings() == [], node.workflow.render()


@pytest.mark.parametrize("name", ["chain", "chord", "nested", "delayed"])
def test_a_canvas_of_which_anything_is_canceled_is_healthy(name: str, sim: Simulation) -> None:
    signal(CANVASES[name](), subject=name)
    for node in Node.objects.filter(parent__isnull=False).order_by("-pk"):
        node.refresh_from_db()
        if not node.is_finished:
            node.cancel()
            sim._commit()
        assert findings() == [], node.workflow.render()
    sim.advance(minutes=5)
    assert findings() == []


@pytest.fixture
def held(sim: Simulation) -> Node:
    """The body of a chord with a failed member."""
    signal(chord([add.s(1, 1), boom.s()], total.s()), subject="order")
    sim.run()
    return Node.objects.get(task=total.name)


def write(node: Node, **values: Any) -> None:
    Node.objects.filter(pk=node.pk).update(**values)


def checks(*, fix: bool = False) -> set[str]:
    found = examine(wait=0, fix=fix).findings
    return {finding.check for finding in found if not finding.is_fixed}


def test_a_container_that_was_claimed_is_found(held: Node) -> None:
    write(Node.objects.get(container="group"), attempt=1)
    assert checks() == {"container-with-attempt"}


def test_a_step_that_takes_what_is_not_there_is_found(held: Node) -> None:
    write(Node.objects.get(task=boom.name), input=Input.PARENT)
    assert checks() == {"missing-source"}
    write(Node.objects.get(task=boom.name), input=Input.NONE)
    write(Node.objects.get(container="group"), input=Input.PREVIOUS)
    assert checks() == {"missing-source"}


def test_a_step_that_ran_without_its_value_is_found(sim: Simulation) -> None:
    signal(chain(add.s(1, 1), add.s(1)), subject="order")
    sim.run()
    first = Node.objects.filter(task=add.name).order_by("seq")[0]
    write(first, status=Status.CANCELED, outcome="")
    assert "complete-without-value" in checks()


@pytest.mark.parametrize("body", [total.s(), group(total.s(), total.s(1))])
def test_a_body_whose_header_is_gone_is_canceled(body: Any, sim: Simulation) -> None:
    signal(chain(add.s(1, 1), boom.s(), body, identity.s()), subject="order")
    sim.run()
    write(
        Node.objects.get(task=boom.name),
        status=Status.CANCELED,
        finished_at=sim.now,
        awaited_by=None,
    )
    assert "open-without-value" in checks()
    examine(wait=0, fix=True)
    bodies = Node.objects.filter(task__in=[total.name, identity.name])
    assert {*bodies.values_list("status", flat=True)} == {"canceled"}
    assert "open-without-value" not in checks()


def test_a_time_to_expire_that_was_left_behind_is_cleared(held: Node) -> None:
    failed = Node.objects.get(task=boom.name)
    write(failed, expires_at=failed.created_at + timedelta(days=1))
    write(held, expires_at=failed.created_at + timedelta(days=1))
    assert checks() == {"expiry-mismatch"}
    assert checks(fix=True) == set()
    held.refresh_from_db()
    assert held.expires_at is not None  # it has not begun


def test_what_an_open_container_has_not_begun_is_released(sim: Simulation) -> None:
    signal(group(group(add.s(1, 1)), chain(add.s(1, 2), double.s())), subject="order")
    inner = Node.objects.filter(container="chain").get()
    write(inner, status=Status.PENDING)
    Node.objects.filter(parent=inner).update(status=Status.PENDING, publish_at=None)
    assert "stuck-pending" in checks()
    examine(wait=0, fix=True)
    sim.run()
    inner.refresh_from_db()
    assert inner.get_result() == 6

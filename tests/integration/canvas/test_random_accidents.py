"""Random canvases in bad weather: failures, retries and an operator; lost and doubled messages.

However it goes, every task ends where the plan says, and was called with what the plan says.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from celery import states
from hypothesis import given
from hypothesis import strategies as st

from backbeat_celery import NodeResult, signal
from backbeat_celery.exceptions import NoValue
from backbeat_celery.inspection.doctor import examine
from backbeat_celery.models import Node, Transition
from backbeat_celery.testing import Simulation
from tests.integration.canvas.plan import DOOMED, LOST, UNWANTED, Plan
from tests.integration.canvas.plays import CURED, Shape, labelled, play, signature_of
from tests.integration.canvas.test_random import PROFILE, simulated
from tests.stateful.accidents import mortal

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(7200)]

FATES = ["retry", "resolve", "cancel", "shutdown"]
DEATHS = ["before_handler", "in_handler", "after_handler", "after_record"]


def plays(below: Any) -> Any:
    failures = st.sampled_from([0, 0, 0, 1, 2, DOOMED, DOOMED, UNWANTED])
    parts = failures, st.sampled_from(FATES), st.booleans(), below
    return st.builds(lambda *drawn: ["play", *drawn], *parts)


def forms(shapes: Any) -> Any:
    some = st.lists(shapes, min_size=1, max_size=4)
    return st.one_of(
        st.builds(lambda steps: ["chain", steps], some),
        st.builds(lambda members: ["group", members], some),
        st.builds(lambda header, body: ["chord", header, body], some, shapes),
        plays(shapes),
    )


SHAPES = forms(st.recursive(plays(st.none()), forms, max_leaves=10))
WEATHER = st.lists(
    st.sampled_from(["lose", "double", "sweep", "wait", "step", "step", *DEATHS]), max_size=8
)


@pytest.fixture(autouse=True)
def deaths_do_not_add_up(settings: Any) -> Iterator[None]:
    settings.BACKBEAT = {"MAX_LOST_ATTEMPTS": 10_000}
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def strike(sim: Simulation, event: Any) -> None:
    """Let something happen to messages, workers or time."""
    with mortal():
        if event in DEATHS:
            sim.kill_next(event)
            sim.step()
        elif event == "lose":
            sim.lose_messages()
        elif event == "double":
            sim.duplicate_messages()
        elif event == "sweep":
            sim.sweep()
        elif event == "wait":
            sim.advance(seconds=40)
        else:
            sim.step()


def come_to_rest(sim: Simulation) -> None:
    """Let everything happen that happens by itself."""
    sim._death = None
    before = -1
    while before != (before := Transition.objects.count()):
        sim.sweep()
        sim.advance(hours=1)
    assert sim.in_flight == 0


def cancel_unwanted() -> None:
    for node in Node.objects.filter(task=play.name).order_by("?"):
        node.refresh_from_db()
        if node.kwargs["failures"] == UNWANTED and not node.is_finished:
            node.cancel()


def decide(node: Node) -> None:
    """Do with a failed task what its fate says."""
    assert NodeResult(node.pk).state == states.FAILURE
    label, fate = node.kwargs["label"], node.kwargs["fate"]
    CURED.add(label)
    if fate == "resolve":
        node.resolve(result=["resolved", label])
    else:
        getattr(node, fate)()


def without_unwanted_replacements(shape: Shape | None, *, is_below: bool = False) -> Shape | None:
    """Let what is canceled at once be there at once: nothing in a replacement is."""
    if shape is None:
        return None
    form, *parts = shape
    if form == "play":
        failures, fate, is_immutable, below = parts
        failures = 0 if is_below and failures == UNWANTED else failures
        return [
            *("play", failures, fate, is_immutable),
            without_unwanted_replacements(below, is_below=True),
        ]
    return [
        form,
        *(
            [without_unwanted_replacements(each, is_below=is_below) for each in part]
            if isinstance(part[0], list)
            else without_unwanted_replacements(part, is_below=is_below)
            for part in parts
        ),
    ]


@PROFILE
@given(SHAPES, WEATHER, st.integers(0, 2**32))
def test_whatever_happens_a_canvas_ends_as_planned(shape: Shape, events: Any, seed: int) -> None:
    CURED.clear()
    shape = labelled(without_unwanted_replacements(shape) or [], count(1))
    plan = Plan(signature_of)
    value = plan.value_of(signature_of(shape))
    rng = random.Random(seed)
    with simulated(seed) as sim:
        node = signal(signature_of(shape), subject="x")
        cancel_unwanted()
        for event in events:
            strike(sim, event)
        come_to_rest(sim)
        while failed := list(Node.objects.filter(status="failed").order_by("pk")):
            decide(rng.choice(failed))
            for event in rng.sample(events, min(2, len(events))):
                strike(sim, event)
            if len(failed) == 1 or rng.random() < 0.5:
                come_to_rest(sim)
        check(plan, value, node, sim)


def check(plan: Plan, value: Any, node: Node, sim: Simulation) -> None:
    """Compare what has become of a canvas with the plan."""
    shown = node.workflow.render(color=False)
    nodes = {n.kwargs["label"]: n for n in Node.objects.filter(task=play.name)}
    found = {label: (n.status, n.outcome) for label, n in nodes.items()}
    assert found == plan.statuses, shown
    assert not Node.objects.exclude(parent=None).unfinished().exists(), shown
    for call in sim.calls:
        assert call.args == plan.given[call.kwargs["label"]], shown
    assert {call.kwargs["label"] for call in sim.calls} == {*plan.given}, shown
    for label, row in nodes.items():
        if row.retries and row.kwargs["failures"] != DOOMED:
            assert row.retries == row.kwargs["failures"], label
        if row.status == "canceled":
            assert NodeResult(row.pk).state == states.REVOKED, shown
    node.refresh_from_db()
    if value is LOST:
        with pytest.raises(NoValue):
            node.get_result()
    else:
        assert node.get_result() == value, shown
        assert NodeResult(node.pk).get(timeout=1) == value
    assert not examine(wait=0).broken

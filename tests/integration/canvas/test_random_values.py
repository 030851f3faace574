"""Random canvases of pure tasks have the value that Celery computes eagerly."""

from __future__ import annotations

import os
from typing import Any

import pytest
from celery import chain, chord, group
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from backbeat_celery import NodeResult, signal
from backbeat_celery.models import Node, Workflow
from backbeat_celery.testing import Simulation
from tests.integration.canvas.tasks import tag

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning"),
]

EXAMPLES = {"brief": 40, "quick": 300, "thorough": 2000}
"""Canvases that are drawn; HYPOTHESIS_PROFILE chooses."""

LABELS = st.integers(0, 99)


def leaves() -> st.SearchStrategy[Any]:
    mutable = st.builds(tag.s, LABELS)
    return st.one_of(mutable, mutable, st.builds(tag.si, LABELS))


def is_right_eagerly(steps: list[Any]) -> bool:
    """Whether eager mode does with a chain of these what a worker does.

    A worker runs the member of a group of one by itself, eager mode in a list.
    """
    return not any(isinstance(step, group) and len(step.tasks) == 1 for step in steps)


def forms(steps: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Canvases of steps.

    Celery sends the members of a group within a header in another order, and lists them so.
    """
    some = st.lists(steps, min_size=1, max_size=3).filter(is_right_eagerly)
    header = st.lists(steps.filter(lambda step: not isinstance(step, group)), max_size=3)
    return st.one_of(
        some.map(lambda found: chain(*found)),
        st.lists(steps, min_size=1, max_size=3).map(group),
        st.builds(chord, header, steps),
        st.builds(lambda one, other: one | other, steps, steps),
        st.builds(
            lambda items, n: tag.chunks([(i,) for i in items], n).group(),
            st.lists(LABELS, min_size=1, max_size=4),
            st.integers(1, 3),
        ),
        st.lists(LABELS, max_size=3).map(tag.map),
        st.lists(LABELS, max_size=3).map(lambda items: tag.starmap([(i, i) for i in items])),
    )


CANVASES = st.recursive(leaves(), forms, max_leaves=8)


@settings(
    max_examples=EXAMPLES[os.environ.get("HYPOTHESIS_PROFILE", "brief")],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(canvas=CANVASES)
def test_a_canvas_has_the_value_that_celery_gives(canvas: Any) -> None:
    # A worker gives the list of a group that is alone in a group, eager mode a list of it.
    assume(not (isinstance(canvas, group) and len(canvas.tasks) == 1))
    expected = canvas.clone().apply().get()
    Workflow.objects.all().delete()
    with Simulation() as sim:
        node = signal(canvas, subject="x")
        sim.run()
        node.refresh_from_db()
        assert node.status == "complete", node.workflow.render()
        assert node.get_result() == expected, (canvas, node.workflow.render())
        assert NodeResult(node.pk).get(timeout=1) == expected
        assert Node.objects.filter(status="complete").count() == Node.objects.count() - 1

"""Random canvases: their values are those that Celery computes, each task is called once.

Celery computes them eagerly, in this process, and so without any of what makes them durable here.
What eager mode does by itself is named at `computed_by_celery`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import states
from celery.exceptions import ImproperlyConfigured
from celery.result import EagerResult, GroupResult
from django.db import transaction
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from backbeat_celery import NodeResult, signal
from backbeat_celery.inspection.doctor import examine
from backbeat_celery.models import Attempt, Node
from backbeat_celery.testing import Simulation
from tests.integration.canvas.shapes import SHAPES, Shape, become, signature_of

EXAMPLES = {"brief": 60, "quick": 200, "thorough": 2000}
PROFILE = settings(
    deadline=None,
    database=None,
    max_examples=EXAMPLES[os.environ.get("HYPOTHESIS_PROFILE", "brief")],
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(7200)]


@contextmanager
def simulated(seed: int = 0) -> Iterator[Simulation]:
    with transaction.atomic(), Simulation(seed) as sim:
        yield sim
        transaction.set_rollback(True)


def computed_by_celery(shape: Shape) -> Any:
    """Let Celery compute the value, and pass over what it does not do eagerly.

    * `chunks` would be sent to the broker: `signature_of` puts a task with its value there.
    * An empty chain has no result, and a chain with one in it dies of that: sent, it gives None.
    * A group with nothing but a chain that ends in a group gives a list with that one's list, and
      sent only that one's: see `is_unwrapped`.
    """
    canvas = signature_of(shape, is_eager=True)
    try:
        result: EagerResult | GroupResult | None = canvas.apply()
    except AttributeError as exc:
        assert str(exc) == "'NoneType' object has no attribute 'parent'", exc
        assume(False)
    except ImproperlyConfigured as exc:
        assert str(exc) == "Cannot replace with an empty chain"
        assume(False)
    return None if result is None else result.get()


@PROFILE
@given(SHAPES, st.integers(0, 99))
def test_a_random_canvas_gives_what_celery_computes(shape: Shape, seed: int) -> None:
    expected = computed_by_celery(shape)
    with simulated(seed) as sim:
        node = signal(signature_of(shape), subject="x")
        sim.run()
        assert sim.in_flight == 0
        node.refresh_from_db()
        assert node.status == "complete", node.workflow.render(color=False)
        assert (expected, states.SUCCESS) == (node.get_result(), NodeResult(node.pk).state)
        assert NodeResult(node.pk).get(timeout=1) == expected
        # Each task was called once, and none twice or never.
        tasks = Node.objects.exclude(parent=None).filter(container="").values_list("pk", flat=True)
        assert Counter(call.node_id for call in sim.calls) == Counter(tasks)
        assert not examine(wait=0).broken

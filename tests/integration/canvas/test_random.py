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
from celery import chord, group, states
from celery.backends.base import DisabledBackend
from celery.canvas import _chain, maybe_signature, maybe_unroll_group
from celery.exceptions import ImproperlyConfigured
from django.db import transaction
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st

from backbeat_celery import NodeResult, signal
from backbeat_celery.inspection.doctor import examine
from backbeat_celery.models import Node
from backbeat_celery.testing import Simulation
from tests.integration.canvas.random_shapes import SHAPES, Shape, signature_of

EXAMPLES = {"brief": 60, "quick": 200, "thorough": 2000}
PROFILE = settings(
    deadline=None,
    database=None,
    max_examples=EXAMPLES[os.environ.get("HYPOTHESIS_PROFILE", "brief")],
    print_blob=True,
    phases=[Phase.explicit, Phase.generate],  # shapes are small, and to shrink one takes minutes
    suppress_health_check=list(HealthCheck),
)

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(7200)]


@contextmanager
def simulated(seed: int = 0) -> Iterator[Simulation]:
    with transaction.atomic(), Simulation(seed) as sim:
        yield sim
        transaction.set_rollback(True)


OF_AN_EMPTY_CHAIN = [
    "'NoneType' object has no attribute",
    "Cannot replace with an empty chain",
    "list index out of range",
]
"""How Celery dies of a chain with nothing in it, which has no result to be waited for."""


def computed_by_celery(shape: Shape) -> Any:
    """Let Celery compute the value, as it does for a canvas that is sent.

    Eager, some things are otherwise, and they are put right here or passed over:

    * `chunks` would be sent to the broker: `signature_of` puts a task with its value there.
    * A chord drops the arguments that its `clone()` was given: see `_apply_chord`.
    * A chain of nothing but a group of one is not unrolled: see `_apply_chain`.
    * A group of nothing but a chain that ends in a group is not unwrapped.
    * Freezing a group, as `replace` does, turns the groups in it around: see `_freeze_unroll`.
    * `replace` with a chord asks for a result backend.
    * A chain within a canvas that has no task at all dies in several ways.
    """
    canvas = signature_of(shape, is_eager=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chord, "apply", _apply_chord)
        patch.setattr(_chain, "apply", _apply_chain)
        patch.setattr(group, "_freeze_unroll", _freeze_unroll)
        patch.setattr(DisabledBackend, "ensure_chords_allowed", lambda self: None)
        try:
            result = canvas.apply()
            value = None if result is None else result.get()
        except (AttributeError, ImproperlyConfigured, IndexError) as exc:
            if not any(text in str(exc) for text in OF_AN_EMPTY_CHAIN):
                raise
            assume(False)
    return value[0] if _is_unwrapped(canvas) else value


APPLY_CHORD, APPLY_CHAIN, FREEZE_UNROLL = chord.apply, _chain.apply, group._freeze_unroll


def _apply_chord(self: Any, args: Any = (), kwargs: Any = None, **options: Any) -> Any:
    own = {k: v for k, v in self.kwargs.items() if k not in {"header", "body", "kwargs"}}
    return APPLY_CHORD(self, (*(args or ()), *self.args), {**own, **(kwargs or {})}, **options)


def _apply_chain(self: Any, args: Any = (), kwargs: Any = None, **options: Any) -> Any:
    tasks = [
        maybe_unroll_group(task) if isinstance(task, group) else task
        for task in map(maybe_signature, self.tasks)
    ]
    same = self.clone()
    same.kwargs["tasks"] = tasks
    return APPLY_CHAIN(same, args, kwargs, **options)


def _freeze_unroll(self: Any, *args: Any) -> Any:
    self.tasks = list(_flat(self.tasks))
    return FREEZE_UNROLL(self, *args)


def _flat(tasks: Any) -> Iterator[Any]:
    for task in map(maybe_signature, tasks):
        yield from _flat(task.tasks) if isinstance(task, group) else [task]


def _is_unwrapped(canvas: Any) -> bool:
    tasks = canvas.tasks if isinstance(canvas, group) else []
    steps = tasks[0].tasks if len(tasks) == 1 and isinstance(tasks[0], _chain) else []
    return bool(steps) and isinstance(steps[-1], group)


A, B = ["task", "mark", ["a"], False], ["task", "mark", ["b"], False]


@PROFILE
@example(["group", [["pipe", [A, ["group", [A, B]]]]]], 0)
@example(["replace", ["group", [["pipe", [A, ["group", [A, B]]]]]]], 0)
@example(["pipe", [A, ["group", [["pipe", [A, ["group", [A, B]]]]]], B]], 0)
@example(["chord", [A, ["group", [A, B, ["group", [B]]]], A], B, True], 0)
@example(["chain", [["group", [["chain", [A]]]]]], 0)
@example(["replace", ["chain", [A, ["group", [A, ["group", [B, A]], B]]]]], 0)
@example(["replace", ["chain", [A, ["group", [B]]]]], 0)
@example(["replace", ["chain", [A, ["group", []]]]], 0)
@example(["replace", ["chain", [["group", [B]]]]], 0)
@example(["chain", [A, ["replace", ["chain", [A, ["group", [["chunks", 2, 1]]]]]], B]], 0)
@example(["given", ["pipe", [["chord", [A, B], A, False], B]], [1], {"given": 2}], 0)
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

"""A machine that runs random trees through random accidents and checks them against the model."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backbeat_celery import signal, signal_many
from backbeat_celery.exceptions import InvalidTransition, LinkCycle, NodeFinished
from backbeat_celery.inspection.doctor import examine
from backbeat_celery.models import Node
from backbeat_celery.runtime import failpoints
from backbeat_celery.runtime.failpoints import WorkerDied
from backbeat_celery.testing import Simulation
from backbeat_celery.verbs import add_child
from tests.stateful import handlers, invariants
from tests.stateful.accidents import (
    ACCIDENTS,
    ALL_DEATHS,
    ALL_POINTS,
    ALL_SECONDS,
    IN_ATTEMPT,
    dead_processes_do_nothing,
    mortal,
    rolled_back,
)
from tests.stateful.canvases import NAME, Canvases, grow_canvas
from tests.stateful.compare import compare
from tests.stateful.model import Model
from tests.stateful.shapes import CHILDREN, LEAST, SEEDS, SIGNALS, grow

START = datetime(2030, 1, 1, tzinfo=UTC)
NAMES, SUBJECTS = ["order", "return"], ["camera", "lens"]
PAIRS = st.tuples(st.sampled_from(NAMES), st.sampled_from(SUBJECTS))


class Machine(RuleBasedStateMachine):
    """Every rule is something that happens to a system; none of them may break an invariant."""

    def __init__(self) -> None:
        super().__init__()
        self.growth = 0
        self.model = Model(handlers.MAX_RETRIES)
        self.canvases = Canvases()
        self.labels: list[str] = []
        self.plan: tuple[str, int, Callable[[], None]] | None = None
        self.stack = ExitStack()
        self.stack.enter_context(rolled_back())
        random.seed(0)
        self.sim = self.stack.enter_context(Simulation(seed=1, start=START))
        self._noticed = failpoints._observer
        self.stack.enter_context(failpoints.watched(self._reached))

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self._come_to_rest()
                compare(self.model, self.sim.calls)
                self.canvases.compare(self.sim.calls)
        finally:
            self.stack.close()

    # What users do -----------------------------------------------------------------------

    @initialize(shape=SIGNALS, pair=PAIRS)
    def begin(self, shape: dict[str, Any], pair: tuple[str, str]) -> None:
        self.signal(shape, pair)

    @rule(shape=SIGNALS, pair=PAIRS)
    def signal(self, shape: dict[str, Any], pair: tuple[str, str]) -> None:
        self._label(shape)
        node = signal(handlers.signature_of(shape), **self._signal_options(shape, pair))
        assert node.metadata["label"] == self.model.signal(*pair, shape)

    @rule(batch=st.lists(st.tuples(SIGNALS, PAIRS), min_size=2, max_size=3))
    def signal_many(self, batch: list[tuple[dict[str, Any], tuple[str, str]]]) -> None:
        for shape, _ in batch:
            self._label(shape)
        # Signals take their places in the order in which workflows are locked.
        batch = sorted(batch, key=lambda item: item[1])
        nodes = signal_many(
            (handlers.signature_of(shape), self._signal_options(shape, pair))
            for shape, pair in batch
        )
        for node, (shape, pair) in zip(nodes, batch, strict=True):
            assert node.metadata["label"] == self.model.signal(*pair, shape)

    @rule(seed=SEEDS, size=st.integers(1, 7))
    def signal_canvas(self, seed: int, size: int) -> None:
        self.canvases.signal(grow_canvas(random.Random(seed), size))

    @precondition(lambda self: self.labels)
    @rule(shape=SIGNALS, pair=PAIRS, index=st.integers(0, 99))
    def link(self, shape: dict[str, Any], pair: tuple[str, str], index: int) -> None:
        source = self._pick(index)
        if source is None or shape["key"] is not None:
            return
        self._label(shape)
        try:
            with transaction.atomic():
                signal(
                    handlers.signature_of(shape), link=source, **self._signal_options(shape, pair)
                )
        except LinkCycle:
            return
        except InvalidTransition:
            assert source.is_finished
            return
        assert not source.is_finished
        self.model.link(source.metadata["label"], self.model.signal(*pair, shape))

    @precondition(lambda self: self.labels)
    @rule(shape=CHILDREN, index=st.integers(0, 99))
    def add_child(self, shape: dict[str, Any], index: int) -> None:
        self._add(self._pick(index), shape)

    # What happens to messages, workers and time -------------------------------------------

    @rule(count=st.integers(1, 5))
    def deliver(self, count: int) -> None:
        with mortal():
            for _ in range(count):
                self.sim.step()

    @rule()
    def run(self) -> None:
        with mortal():
            self.sim.run()

    @rule()
    def duplicate(self) -> None:
        with mortal():
            if self.sim.in_flight < 50:
                self.sim.duplicate_messages()

    @rule()
    def lose(self) -> None:
        with mortal():
            self.sim.lose_messages()

    @rule(point=st.sampled_from(ALL_DEATHS), workers=st.integers(1, 6))
    def die(self, point: Any, workers: int) -> None:
        for _ in range(workers):
            self.sim.kill_next(point)
            with mortal():
                self.sim.step()

    @rule(looks=st.integers(1, 3))
    def grow(self, looks: int) -> None:
        """Let parents get one more child each at the moment when they may seem complete."""

        def more() -> None:
            self.growth -= 1
            self.plan = ("looked", 0, more) if self.growth > 0 else None
            self._happen("add to all", {**LEAST, "kind": "patient", "children": []}, 0)

        self.growth, self.plan = looks, ("looked", 0, more)
        with mortal():
            self.sim.run()

    @rule(seconds=st.sampled_from(ALL_SECONDS))
    def advance(self, seconds: int) -> None:
        with mortal():
            self.sim.advance(seconds=seconds)

    @rule()
    def sweep(self) -> None:
        with mortal():
            self.sim.sweep()

    @rule(
        point=st.sampled_from(ALL_POINTS),
        passes=st.integers(0, 4),
        accident=st.sampled_from(ACCIDENTS),
        shape=CHILDREN,
        index=st.integers(0, 99),
    )
    def meddle(self, point: str, passes: int, accident: str, shape: Any, index: int) -> None:
        """Let something happen in the middle of a step, when it passes a point once more."""
        self.plan = (point, passes, lambda: self._happen(accident, shape, index))
        with mortal():
            self.sim.run()

    @rule(point=st.sampled_from(IN_ATTEMPT), passes=st.integers(0, 2))
    def take_over(self, point: str, passes: int) -> None:
        """Let a lease run out while a handler runs, and its successor die while running."""
        self.plan = (point, passes, self._take_over)
        with mortal():
            self.sim.run()

    @rule(seed=SEEDS, count=st.integers(1, 12))
    def storm(self, seed: int, count: int) -> None:
        """Many accidents in a row: what one seed gives for the price of one choice."""
        rng = random.Random(seed)
        for _ in range(count):
            self._strike(rng)
            self.nothing_is_broken()

    def _strike(self, rng: random.Random) -> None:
        shape = grow(rng.getrandbits(32), rng.randint(1, 3))
        point, accident = rng.choice(ALL_POINTS), rng.choice(ACCIDENTS)
        happening = [
            lambda: self.deliver(rng.randint(1, 5)),
            lambda: self.die(rng.choice(ALL_DEATHS), rng.randint(1, 3)),
            lambda: self.meddle(point, rng.randint(0, 2), accident, shape, rng.randint(0, 99)),
            lambda: self.add_child(shape, rng.randint(0, 99)),
            lambda: self.take_over(rng.choice(IN_ATTEMPT), rng.randint(0, 2)),
            lambda: self.advance(rng.choice(ALL_SECONDS)),
            lambda: self.grow(rng.randint(1, 3)),
            self.lose,
            self.duplicate,
        ]
        rng.choice(happening)()

    @invariant()
    def nothing_is_broken(self) -> None:
        faults = invariants.broken_now()
        assert not faults, faults

    # How it is done ------------------------------------------------------------------------

    def _reached(self, name: str) -> None:
        with dead_processes_do_nothing():
            self._noticed(name)
        point, passes, happen = self.plan or ("", 0, None)
        if name != point:
            return
        if passes:
            self.plan = (point, passes - 1, happen)
        else:
            self.plan = None
            happen()

    def _take_over(self) -> None:
        self.sim.run()
        self.sim.kill_next("in_handler")
        self.sim.advance(seconds=40)

    def _happen(self, accident: str, shape: dict[str, Any], index: int) -> None:
        if accident == "add":
            self._add(self._pick(index), shape)
        elif accident == "add to all":
            for node in self._trees().filter(status="waiting"):
                self._add(node, deepcopy(shape))
        elif accident == "add above" and (below := self._pick(index)):
            self._add(below.parent, shape)
        elif accident == "sweep":
            self.sim.sweep()
        elif accident == "deliver":
            self.sim.step()
        elif accident == "double":
            self.sim.duplicate_messages()
        elif accident == "expire":
            self.sim.advance(seconds=40)
        elif accident == "die":
            with dead_processes_do_nothing():
                raise WorkerDied

    def _label(self, shape: dict[str, Any]) -> None:
        shape["label"] = f"{shape['kind']}{len(self.labels)}"
        self.labels.append(shape["label"])
        for child in shape["children"]:
            self._label(child)

    def _signal_options(self, shape: dict[str, Any], pair: tuple[str, str]) -> dict[str, Any]:
        options = handlers.options_of(shape)
        return {**options, "name": pair[0], "subject": pair[1]}

    def _trees(self) -> QuerySet[Node]:
        """All nodes but those of canvases, whose plan knows no other children."""
        return Node.objects.exclude(parent=None).exclude(workflow__name=NAME)

    def _pick(self, index: int) -> Node | None:
        nodes = list(self._trees().exclude(task="").order_by("pk"))
        return nodes[index % len(nodes)] if nodes else None

    def _add(self, parent: Node | None, shape: dict[str, Any]) -> None:
        if parent is None or parent.is_root or shape["kind"] == "flag" or "label" in shape:
            return
        parent.refresh_from_db()
        self._label(shape)
        try:
            node = add_child(parent, handlers.signature_of(shape), **handlers.options_of(shape))
        except NodeFinished:
            assert parent.is_finished
            return
        assert not parent.is_finished
        is_accepted = parent.status == "waiting"
        label = parent.metadata["label"]
        expected = self.model.add_child(label, shape, is_accepted=is_accepted)
        assert node.metadata["label"] == expected

    def _come_to_rest(self) -> None:
        """Let everything happen that happens by itself."""
        self.plan = None
        self.sim._death = None
        before = -1
        while before != (before := invariants.last_change()):
            self.sim.sweep()
            self.sim.advance(timedelta(hours=3))
        assert self.sim.in_flight == 0
        faults = invariants.broken_at_rest()
        assert not faults, faults
        # The doctor says the same, by queries.
        findings = [str(found) for found in examine(wait=0).broken]
        assert not findings, findings

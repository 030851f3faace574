"""Whatever is advanced by whatever steps, a Simulation starts each node when it falls due."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from backbeat_celery import current_node, node_task, signal
from backbeat_celery.models import Node
from backbeat_celery.testing import Simulation

EXAMPLES = {"brief": 10, "quick": 100, "thorough": 2000}
PATIENCE = timedelta(seconds=1200)
"""How long a node awaits its completion at most, so that none times out, which is another test."""


@dataclass(frozen=True)
class Step:
    """One of a line of blocking siblings."""

    delay: int
    """Seconds from its registration before which it must not start."""
    fails: int | None
    """Its first attempt asks for another one after so many seconds."""
    awaits: bool


@dataclass
class Placement:
    """A signal whose handler registers steps, and what became of them."""

    number: int
    steps: list[Step]
    made: datetime
    reports: dict[int, datetime] = field(default_factory=dict)

    def starts(self) -> Iterator[tuple[int, int, datetime]]:
        """Line, step and time of each start, by the rules of order and nothing else."""
        turn = self.made
        for position, step in enumerate(self.steps):
            turn = max(turn, self.made + timedelta(seconds=step.delay))
            yield self.number, position, turn
            if step.fails is not None:
                turn += timedelta(seconds=step.fails)
                yield self.number, position, turn
            turn = self.reports.get(position, turn)


@node_task(name="tests.time.line", retry_jitter=False)
def line(number: int, steps: list[list[Any]]) -> None:
    for position, values in enumerate(steps):
        step = Step(*values)
        task = awaiting if step.awaits else short
        current_node().spawn(task.s(number, position, step.fails), delay=step.delay)


@node_task(name="tests.time.short", bind=True)
def short(self: Any, number: int, position: int, fails: int | None) -> None:
    _fail_once(self, fails)


@node_task(name="tests.time.awaiting", bind=True, awaits_completion=True)
def awaiting(self: Any, number: int, position: int, fails: int | None) -> None:
    _fail_once(self, fails)


def _fail_once(task: Any, fails: int | None) -> None:
    if fails is not None and current_node().attempt == 1:
        raise task.retry(countdown=fails)


SECONDS = st.one_of(st.integers(0, 90), st.integers(0, 2000))
STEPS = st.lists(
    st.builds(Step, SECONDS, st.none() | st.integers(1, 900), st.booleans()),
    min_size=1,
    max_size=4,
)
MOVES = st.lists(
    st.tuples(
        st.floats(0, 90) | st.floats(0, 2000),
        st.booleans(),
        st.none() | STEPS,
    ),
    min_size=1,
    max_size=8,
)


class Course:
    """A Simulation, the lines sent so far, and who reports from outside."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.lines: list[Placement] = []

    def send(self, steps: list[Step]) -> None:
        number = len(self.lines)
        self.lines.append(Placement(number, steps, self.sim.now))
        values = [[s.delay, s.fails, s.awaits] for s in steps]
        signal(line.s(number, values), subject=str(number))

    def report(self, *, all_of_them: bool) -> None:
        """Complete nodes that await it: all, or those that would soon run out of time."""
        for node in Node.objects.filter(task=awaiting.name, status="running"):
            if all_of_them or self.sim.now - node.started_at > PATIENCE:
                number, position, _ = node.args
                self.lines[number].reports[position] = self.sim.now
                node.complete()

    def finish(self) -> None:
        """Go on until nothing is left to do."""
        unfinished = Node.objects.filter(parent__isnull=False, finished_at=None)
        for _ in range(100):
            self.sim.advance(seconds=1999)
            if not unfinished.exists():
                return
            self.report(all_of_them=True)
        raise AssertionError(f"Unfinished for ever: {list(unfinished)}")

    def starts(self) -> dict[tuple[int, int], list[datetime]]:
        """When the handler of each step was called."""
        found = defaultdict(list)
        for call in self.sim.calls:
            if call.task != line.name:
                found[call.args[0], call.args[1]].append(call.at)
        return found

    def expected(self) -> dict[tuple[int, int], list[datetime]]:
        """When each should have been."""
        due = defaultdict(list)
        for one in self.lines:
            for number, position, at in one.starts():
                due[number, position].append(at)
        return due


@pytest.mark.timeout(7200)
@pytest.mark.django_db
@settings(
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    max_examples=EXAMPLES[os.environ.get("HYPOTHESIS_PROFILE", "brief")],
    suppress_health_check=list(HealthCheck),
)
@given(first=STEPS, moves=MOVES)
def test_each_node_starts_at_the_very_time_it_falls_due(first: list[Step], moves: Any) -> None:
    with transaction.atomic(), Simulation() as sim:
        course = Course(sim)
        course.send(first)
        for seconds, reports, more in moves:
            sim.advance(seconds=seconds)
            course.report(all_of_them=reports)
            if more is not None:
                course.send(more)
        course.finish()
        assert course.starts() == course.expected()
        transaction.set_rollback(True)

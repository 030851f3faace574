"""Every fault at every point of the engine: a day in the life of a shop comes out right.

Real commits rather than a test's transaction, so that what a fault rolls back is gone.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group

from backbeat_celery import signal
from backbeat_celery.exceptions import InvalidTransition
from backbeat_celery.models import Node, Workflow
from backbeat_celery.testing import Simulation
from tests.chaos import handlers, notes
from tests.chaos.audit import audit
from tests.chaos.evidence import Evidence
from tests.chaos.places import POINTS
from tests.chaos.shapes import Shape, labels
from tests.chaos.strikes import FAULTS, Striker, insisting
from tests.chaos.watch import Log
from tests.stateful.invariants import Rows, last_change

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
SEED = int(os.environ.get("BACKBEAT_CHAOS_SEED", "0"))
ALL = "BACKBEAT_CHAOS_ALL_POINTS" in os.environ


def leaf(label: str, **more: Any) -> Shape:
    shape = {"task": "work", "mode": "blocking", "children": [], "ms": 0, "fails": 0}
    return {**shape, "label": label, **more}


PARALLEL = {"mode": "non_blocking"}
TREE = leaf(
    "tree",
    children=[
        leaf("tree.first", children=[leaf("tree.first.low"), leaf("tree.first.b", **PARALLEL)]),
        leaf("tree.late", delay=2, **PARALLEL),
        leaf("tree.effect", task="atomic", fails=1),
        leaf("tree.after", barrier=True),
        {"label": "tree.flag", "task": "flag", "mode": "blocking", "delay": 100},
        leaf("tree.one", delay=2, **PARALLEL),
        leaf("tree.two", barrier=True),
        leaf("tree.last", link={**leaf("tree.last.link"), "subject": "links"}),
    ],
)
BRITTLE = [leaf(f"brittle{n}", task="brittle", fails=1, **PARALLEL) for n in range(3)]
DOOMED = leaf("doomed", children=[leaf("doomed.a", delay=500), leaf("doomed.b")])
SHAPES = [TREE, *BRITTLE, DOOMED]


class Day:
    """What happens, fault or not."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim

    def live(self) -> None:
        """Go through the day, and let it come to its end."""
        for shape in SHAPES:
            self.do(lambda shape=shape: self.send(shape))
        self.do(self.sim.run)
        self.sim.kill_next("in_handler")
        self.do(self.sim.run)
        self.do(lambda: self.sim.advance(seconds=3))
        self.do(lambda: self.workflow("tree").pause(by="chaos"))
        self.do(lambda: self.sim.advance(seconds=40))
        self.do(lambda: self.steer("doomed", "reset"))
        self.do(lambda: self.steer("doomed", "cancel"))
        self.do(lambda: self.workflow("tree").resume(by="chaos"))
        for verb in ("retry", "resolve", "shutdown"):
            self.do(lambda verb=verb: self.steer(f"brittle{len(verb) % 3}", verb))
        self.sim.lose_messages()
        for shape in SHAPES:
            self.do(lambda shape=shape: self.workflow(shape["label"]).close())
        self.do(lambda: self.sim.advance(minutes=20))
        self.rest()

    def do(self, step: Any) -> None:
        insisting(self.sim, step)

    def send(self, shape: Shape) -> Node:
        """Signal a tree; its key makes it one, however often it is sent."""
        options = {**handlers.options_of(shape), "subject": shape["label"], "key": shape["label"]}
        return signal(handlers.call_of(shape), **options)

    def workflow(self, subject: str) -> Workflow:
        return Workflow.objects.get(subject=subject)

    def steer(self, label: str, verb: str) -> None:
        """Call a verb; that it is refused only means that somebody was there before."""
        node = Node.objects.filter(metadata__label=label).latest("pk")
        try:
            getattr(node, verb)(by="chaos")
        except InvalidTransition:
            node.refresh_from_db()

    def rest(self) -> None:
        """Retry what failed, until nothing changes any more."""
        before = -1
        while before != (before := last_change()):
            for node in Node.objects.filter(status="failed"):
                node.retry(by="chaos")
            self.sim.sweep()
            self.sim.advance(minutes=15)


@pytest.fixture
def day(tmp_path: Any, monkeypatch: Any, settings: Any) -> Any:
    """A Simulation with real commits, and the handlers' log."""
    settings.BACKBEAT = {"MAX_LOST_ATTEMPTS": 10}
    log = tmp_path / "handlers.jsonl"
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    monkeypatch.setattr(notes, "_log", file)
    with Simulation(seed=SEED) as sim:
        yield Day(sim)
    os.close(file)


def evidence() -> Evidence:
    effects = Counter(name[:36] for name in Group.objects.values_list("name", flat=True))
    path = Path(os.readlink(f"/proc/self/fd/{notes._log}"))
    return Evidence(Rows(), Log(path).lines(), set(labels(SHAPES)), effects)


def test_a_day_without_a_fault_passes_every_point(day: Day):
    passed: Counter[str] = Counter()
    striker = Striker(day.sim, "nowhere", "die")
    striker._reached = lambda name: passed.update([name])  # type: ignore[method-assign]
    with striker.watching():
        day.live()
    assert set(POINTS) <= set(passed)
    assert audit(evidence()) == []
    assert not Node.objects.exclude(status__in=["complete", "canceled"]).exclude(
        workflow__subject="links", parent=None
    )


def cases() -> Iterator[Any]:
    """All there are, or of each point the one that the seed draws."""
    for point in POINTS:
        drawn = random.Random(f"{SEED} {point}").choice(FAULTS)
        for fault in FAULTS:
            if ALL or fault == drawn:
                yield pytest.param(point, fault, True, id=f"{point}-{fault}")
            if ALL:
                yield pytest.param(point, fault, False, id=f"{point}-{fault}-later")


@pytest.mark.parametrize(("point", "fault", "is_first"), list(cases()))
def test_a_fault_at_a_point_changes_nothing(day: Day, point: str, fault: str, is_first: bool):
    rng = random.Random(f"{SEED} {point} {fault}")
    striker = Striker(day.sim, point, fault, passes=0 if is_first else rng.randint(1, 9))
    with striker.watching():
        day.live()
    assert striker.has_struck or not is_first
    # What strikes inside of a handler is a failure of that handler.
    ours = ("'a bug'", "'the connection broke'")
    assert [v for v in audit(evidence()) if not any(text in v.text for text in ours)] == []
    unfinished = Node.objects.exclude(status__in=["complete", "canceled"])
    assert not unfinished.exclude(workflow__subject="links", parent=None)


@pytest.mark.parametrize("fault", ["fail", "lose_answer"])
def test_a_record_whose_commit_fails_is_repeated_at_once(day: Day, fault: str):
    """Not by another run of the handler, after the lease."""
    striker = Striker(day.sim, "record_written", fault)
    with striker.watching():
        node = day.send(leaf("parent", children=[leaf("parent.child")]))
        day.sim.run()
    assert striker.has_struck
    assert [attempt.outcome for attempt in node.attempts] == ["succeeded"]
    assert [call.args[0]["label"] for call in day.sim.calls][:1] == ["parent"]

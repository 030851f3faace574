"""One run: feed trees, inflict faults, wait until all is done, and gather the evidence."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.chaos import operators, pointfaults, rolling, sickness, wires  # noqa: F401  (register faults)
from tests.chaos.arena import Arena, Blow
from tests.chaos.handlers import SHORT_TIMEOUT
from tests.chaos.metronome import Metronome
from tests.chaos.nemesis import Nemesis
from tests.chaos.outsiders import Outsiders, Report
from tests.chaos.profiles import LEASE, Profile
from tests.chaos.shapes import Shape, Tree, Workload, canvases_of, labels
from tests.chaos.soak import Soak
from tests.chaos.surroundings import surroundings
from tests.chaos.watch import counts, insist, newest

PATIENCE = 60
"""Seconds after which what is not done after the last fault is stuck."""
REST = 4
"""Seconds without a change after which nothing more is going to happen by itself."""
MOST_AT_ONCE = 20
"""Trees that are sent before anything else is looked after."""
PACK = 10
"""Trees sent by one call where all are small."""
KOMBU_582 = (
    "Unrecoverable error: AttributeError(\"'NoneType' object has no attribute 'hostname'\")"
)
"""How a worker ends now and then whose Redis dies while it closes a channel: kombu's issue 582.

A supervisor starts another, as the harness does.
"""
OVERTIME = 3
"""Times the planned nodes after which a run gives up inflicting what is missing."""


@dataclass
class Outcome:
    """What a run has shown, for the auditor."""

    labels: set[str] = field(default_factory=set)
    canvases: dict[str, Shape] = field(default_factory=dict)
    """The canvases that were sent or are spawned, by their labels."""
    pauses: list[tuple[str, float, float]] = field(default_factory=list)
    blows: list[Blow] = field(default_factory=list)
    missing: dict[str, int] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)
    """What was said from outside about nodes that await it."""
    closed: set[str] = field(default_factory=set)
    crashes: list[tuple[float, float]] = field(default_factory=list)
    """When the database had crashed."""
    complaints: list[str] = field(default_factory=list)
    settled: float = 0.0
    """Seconds from the last fault until everything was done."""
    seconds: float = 0.0
    ended_in_kombu: int = 0
    """Workers that ended by themselves, and not for any fault of ours."""
    remarks: dict[str, Any] = field(default_factory=dict)


class Run:
    """The loop of a run."""

    def __init__(self, arena: Arena, profile: Profile, seed: int) -> None:
        self.arena = arena
        self.profile = profile
        self.workload = Workload(
            seed,
            slow=LEASE + 2.5,
            hang=6,
            slow_share=profile.slow_share,
            brittle=profile.brittle,
            pairs=profile.pairs,
            # An earlier version of the package keeps no headers with its nodes, nor every canvas.
            contexts=not profile.mixed,
            canvases=not profile.mixed,
        )
        self.nemesis = Nemesis(arena)
        self.metronome = Metronome(arena)
        self.outsiders = arena.outsiders = Outsiders(seed, late=SHORT_TIMEOUT)
        self._attendant = operators.Attendant()
        self._attended: list[Blow] = []
        self._next_round = 0.0
        self.outcome = Outcome()
        self._total = self._finished = 0
        self._next_word = 0.0

    def play(self) -> Outcome:
        """Run until everything is done, or for ever stuck."""
        begun = time.monotonic()
        self.arena.fleet.start()
        self.outsiders.start()
        self.arena.tell("workers are ready")
        if self.profile.seconds:
            self._soak()
        while not (self.nemesis.is_done and self._total >= self.profile.nodes):
            self._tick()
            if self._finished > OVERTIME * self.profile.nodes:
                break
        self._settle()
        self._hear()
        self._replay_everything()
        self.outcome.blows = self.nemesis.blows + self.metronome.blows + self._attended
        self.outcome.labels, self.outcome.pauses = self.arena.labels, self.arena.pauses
        if self.outcome.ended_in_kombu:
            self.outcome.remarks["workers that kombu ended when Redis died, and were replaced"] = (
                self.outcome.ended_in_kombu
            )
        if self.profile.mixed:
            accepted = rolling.accepted_by_version(self.arena)
            self.outcome.remarks["accepted by version"] = accepted
            if not all(accepted.values()):
                self.outcome.complaints.append("One version has done nothing.")
        self.outcome.missing = dict(self.nemesis.missing)
        self.outcome.seconds = time.monotonic() - begun
        return self.outcome

    def _hear(self) -> None:
        """Take note of what was said from outside, now that nothing awaits it any more."""
        self.outsiders.stop()
        self.outcome.reports = self.outsiders.reports
        self.outcome.closed = self.arena.closed
        self.outcome.crashes = self.arena.crashes
        self.outcome.complaints += self.outsiders.complaints
        taken = sum(bool(report.was_taken) for report in self.outcome.reports)
        said = f"{len(self.outcome.reports)}, of which {taken} were taken"
        self.outcome.remarks["reports from outside"] = said

    def _soak(self) -> None:
        """Go on for a while with nothing but work, and watch what that takes."""
        soak = Soak(self.arena)
        end = time.monotonic() + self.profile.seconds
        while time.monotonic() < end:
            self._tick()
            soak.sample()
        self.outcome.complaints += soak.complaints()
        self.outcome.remarks["used"] = "; ".join(soak.text())
        self.outcome.remarks["nodes in the soak"] = self._finished

    def _tick(self) -> None:
        self.arena.keep_agenda()
        self._replace_dead()
        self._count()
        self._attend()
        self._feed()
        self.nemesis.strike(self._finished / max(1, self.profile.nodes))
        self.metronome.strike()
        time.sleep(0.02)

    def _count(self) -> None:
        self._total, self._finished = counts()
        if time.monotonic() > self._next_word:
            self._next_word = time.monotonic() + 10
            self.arena.tell(
                f"{self._finished} of {self._total} nodes are finished, "
                f"{self.arena.messages.depth()} messages wait"
            )

    def _feed(self) -> None:
        pack = PACK if self.profile.pairs else 1
        for _ in range(MOST_AT_ONCE // pack):  # faults by the clock must not wait for long
            if self._total - self._finished >= self.profile.backlog:
                break
            trees = [self.workload.next_tree() for _ in range(pack)]
            self._send(*trees)
            shapes = [shape for tree in trees for shape in tree.signals]
            fresh = set(labels(shapes))
            self.arena.labels |= fresh
            self.outcome.canvases |= canvases_of(shapes)
            self._total += len(fresh)

    def _send(self, *trees: Tree) -> None:
        from backbeat_celery import signal_many
        from tests.chaos.handlers import call_of, options_of

        for shape in (shape for tree in trees for shape in tree.signals):
            shape["ambient"] = trees[0].ambient
        signals = [
            (
                call_of(shape),
                # The key makes it safe to send again when the answer was lost.
                {**options_of(shape), "subject": tree.subject, "key": shape["label"]},
            )
            for tree in trees
            for shape in tree.signals
        ]
        with surroundings(trees[0].ambient):
            insist(lambda: signal_many(signals))
        for tree in trees[:1]:  # of a pack, one is enough: each takes a while
            close = partial(operators.close, self.arena, tree.subject)
            self.arena.later(self.arena.rng.uniform(0, 5), close)

    def _attend(self) -> None:
        if time.monotonic() > self._next_round:
            self._next_round = time.monotonic() + 0.5
            self._attended += self._attendant.attend(self.arena)

    def _replace_dead(self) -> None:
        may_die = any(kind.startswith("kill at") for kind in self.nemesis.planned)
        for worker in self.arena.fleet.replace_dead():
            if may_die and worker.process.returncode == -signal.SIGKILL:
                continue
            if self.arena.kinds[1] == "redis" and KOMBU_582 in worker.output.read_text(
                errors="replace"
            ):
                self.outcome.ended_in_kombu += 1
                continue
            self.outcome.complaints.append(f"{worker.name} ended by itself: {worker.tail()}")

    def _settle(self) -> None:
        """Let what was begun come to its end."""
        self.arena.tell("the last fault is over; waiting until everything is done")
        self._set_clocks_right()
        last = time.monotonic()
        while self.arena.is_busy:
            self._tick_quietly()
            last = time.monotonic()
        while self._total > self._finished and time.monotonic() < last + PATIENCE:
            self._tick_quietly()
        self.outcome.settled = time.monotonic() - last
        self._wait_for_rest()

    def _set_clocks_right(self) -> None:
        """A wrong clock is a fault, too, and over when the others are."""
        skewed = [w for w in self.arena.fleet.workers if w.slot in self.arena.fleet.skews]
        self.arena.fleet.skews = {}
        for worker in skewed:
            worker.thaw()
            os.kill(worker.process.pid, signal.SIGTERM)
            self.arena.fleet.replace(worker)

    def _wait_for_rest(self) -> None:
        """Let the roots, too, come to their end: until nothing has changed for a while."""
        before, since = newest(), time.monotonic()
        while time.monotonic() < since + REST:
            self._tick_quietly()
            if before != (before := newest()):
                since = time.monotonic()

    def _tick_quietly(self) -> None:
        self.arena.keep_agenda()
        self._replace_dead()
        self._attend()
        self._count()
        time.sleep(0.05)

    def _replay_everything(self) -> None:
        """Deliver every message that was kept once more: nothing may come of it."""
        before = newest()
        count = self.arena.messages.replay(self.arena.rng, len(self.arena.messages.kept))
        drained = self.arena.messages.drained(60)
        self.outcome.remarks["replayed after the end"] = count
        if not drained:
            self.outcome.complaints.append("The queue is not empty after the end.")
        if newest() != before:
            self.outcome.complaints.append("Messages replayed after the end changed something.")

"""Strike at a named point of the engine in this process: die, fail, lose an answer, or sleep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import OperationalError, connection, transaction

from backbeat_celery.runtime import failpoints
from backbeat_celery.runtime.failpoints import WorkerDied
from backbeat_celery.testing import Simulation
from tests.stateful.accidents import dead_processes_do_nothing

LONG = timedelta(seconds=40)
"""Longer than a lease and a sweep."""


class Striker:
    """Waits until a point is passed for the given time, and strikes once."""

    def __init__(self, sim: Simulation, point: str, fault: str, passes: int = 0) -> None:
        self.sim = sim
        self.point = point
        self.fault = getattr(self, fault)
        self.passes = passes
        self.has_struck = False
        self._loses_answer = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the points besides the Simulation, which does so, too."""
        noticed = failpoints._observer
        leave = transaction.Atomic.__exit__

        def reached(name: str) -> None:
            with dead_processes_do_nothing():
                noticed(name)
                self._reached(name)

        def exit_(atomic: Any, kind: Any, *rest: Any) -> None:
            leave(atomic, kind, *rest)
            if self._loses_answer and kind is None and not connection.in_atomic_block:
                self._loses_answer = False
                raise OperationalError("the commit is done, but its answer was lost")

        transaction.Atomic.__exit__ = exit_  # type: ignore[method-assign]
        try:
            with failpoints.watched(reached):
                yield
        finally:
            transaction.Atomic.__exit__ = leave  # type: ignore[method-assign]

    def _reached(self, name: str) -> None:
        if name != self.point or self.has_struck:
            return
        if self.passes:
            self.passes -= 1
            return
        self.has_struck = True
        self.fault()

    def die(self) -> None:
        """The process is gone, and with it whatever it had not committed."""
        self.sim._after_commit.clear()
        raise WorkerDied(self.point)

    def fail(self) -> None:
        """The connection breaks."""
        raise OperationalError("the connection broke")

    def err(self) -> None:
        """Something nobody has thought of."""
        raise RuntimeError("a bug")

    def lose_answer(self) -> None:
        """The next commit is done, and nobody hears of it."""
        self._loses_answer = True

    def sleep(self) -> None:
        """The process stands still for longer than its lease; outside of a transaction the
        others go on meanwhile.
        """
        if connection.in_atomic_block:
            self.sim._now += LONG
        else:
            self.sim.advance(LONG)


FAULTS = ["die", "fail", "err", "lose_answer", "sleep"]


def insisting(sim: Simulation, step: Callable[[], Any]) -> Any:
    """Do a step of a client or an operator, once more if the first time it was struck down."""
    try:
        return step()
    except (WorkerDied, OperationalError, RuntimeError):
        return step()

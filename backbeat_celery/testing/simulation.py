"""A Simulation replaces the broker and the clock, and nothing else.

Rows, engine and task code are those of production: each delivery goes through Celery's own
tracer, the claim, the record and the hooks.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal
from uuid import UUID, uuid5

from celery import Celery, Task
from django.db.models import Min
from django.utils import timezone

from backbeat_celery.conf import settings
from backbeat_celery.engine.after_commit import Publication
from backbeat_celery.engine.delivery.outbox import header, replaced_outbox
from backbeat_celery.engine.repair.sweep import Sweep
from backbeat_celery.inputs.message_headers import CLAIM_HEADER
from backbeat_celery.inputs.node_spec import registered_task
from backbeat_celery.models import Node, node_alias
from backbeat_celery.runtime import clock, failpoints
from backbeat_celery.runtime.compat.celery import app_in_use, build_tracer
from backbeat_celery.runtime.failpoints import WorkerDied
from backbeat_celery.worker.current_run import run_of
from backbeat_celery.worker.task import make_node_capable

DeathPoint = Literal["before_handler", "in_handler", "after_handler", "after_record"]
WORKER = "simulation"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a handler: `at` is the time on the engine's clock."""

    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    node_id: UUID
    attempt: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Message:
    """A message in flight."""

    publication: Publication
    using: str
    due_at: datetime


class Simulation:
    """Run workflows inside a test: `with Simulation() as sim: signal(...); sim.run()`.

    `seed` draws the order in which messages are delivered; `start` is the first time the
    engine's clock shows, by default now. Works inside a Django `TestCase`.
    """

    def __init__(self, seed: int = 0, start: datetime | None = None) -> None:
        self._random = random.Random(seed)
        self._now = start or timezone.now()
        if self._now.tzinfo is None:
            raise ValueError("start is a datetime with time zone.")
        self._in_flight: list[Message] = []
        self._after_commit: list[Callable[[], object]] = []
        self._death: str | None = None
        self._sweeps: dict[str, Sweep] = {}
        self._next_sweep = self._now
        self._is_quiet = False
        self._tracers: dict[str, Any] = {}
        self._stack = ExitStack()
        self.calls: list[Call] = []
        """Every call of a handler so far, in order."""

    def __enter__(self) -> Simulation:
        self._stack.enter_context(clock.simulated(lambda: self._now))
        self._stack.enter_context(replaced_outbox(self))
        self._stack.enter_context(failpoints.watched(self._reached))
        make_node_capable(self._app)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @property
    def now(self) -> datetime:
        """The time that the engine reads."""
        return self._now

    @property
    def in_flight(self) -> int:
        """How many messages are under way, those that are due later included."""
        self._commit()
        return len(self._in_flight)

    def run(self, max_steps: int = 100_000) -> None:
        """Deliver what is due now, in an order drawn from the seed, until nothing is due."""
        for _ in range(max_steps):
            if not self.step():
                return
        raise AssertionError(f"Still not quiet after {max_steps} deliveries.")

    def step(self) -> bool:
        """Deliver one message that is due now; False if there is none."""
        self._commit()
        due = [index for index, m in enumerate(self._in_flight) if m.due_at <= self._now]
        if not due:
            return False
        self._deliver(self._in_flight.pop(self._random.choice(due)))
        return True

    def advance(self, duration: timedelta | None = None, **units: float) -> None:
        """Move the clock on, running on the way what falls due, in time order.

        Takes a timedelta or its arguments: `sim.advance(hours=2)`.
        """
        end = self._now + (duration or timedelta(**units))
        self._is_quiet = False  # whatever the test has done since
        self.run()
        while self._now < end:
            times = [m.due_at for m in self._in_flight if m.due_at > self._now]
            sweep = self._useful_sweep()
            self._now = min([sweep, end, *times])
            if self._now >= sweep:
                self.sweep()
            self.run()

    def _useful_sweep(self) -> datetime:
        """The first sweep by the interval at which there may be something to find.

        While nothing happens, those before a row's next time would find nothing.
        """
        if not self._is_quiet:
            return self._sweep_from(self._now)
        if (due := self._next_time()) is None:
            return datetime.max.replace(tzinfo=UTC)
        return self._sweep_from(max(due, self._now))

    def _sweep_from(self, time: datetime) -> datetime:
        """The first sweep by the interval that is not before a time."""
        interval = timedelta(seconds=settings.sweep_interval)
        skipped = max(0, math.ceil((time - self._next_sweep) / interval))
        return self._next_sweep + skipped * interval

    def _next_time(self) -> datetime | None:
        """The first time in any database's rows."""
        times = (Min("publish_at"), Min("lease_expires_at"), Min("times_out_at"))
        rows = [Node.objects.using(using).aggregate(*times).values() for using in self._databases]
        return min((time for row in rows for time in row if time is not None), default=None)

    @property
    def _databases(self) -> Sequence[str]:
        return settings.databases or [node_alias()]

    def sweep(self) -> None:
        """Make one repair pass now; `advance` makes one at each interval."""
        self._commit()
        self._next_sweep = self._now + timedelta(seconds=settings.sweep_interval)
        self._is_quiet = True
        for using in self._databases:
            if +self._sweeps.setdefault(using, Sweep(using)).run():
                self._is_quiet = False

    def lose_messages(self) -> int:
        """Lose everything in flight; give how many messages that were."""
        self._commit()
        count = len(self._in_flight)
        self._in_flight.clear()
        return count

    def duplicate_messages(self) -> int:
        """Deliver everything in flight twice; give how many messages were doubled."""
        self._commit()
        count = len(self._in_flight)
        self._in_flight += self._in_flight
        return count

    def kill_next(self, point: DeathPoint) -> None:
        """Let the worker of the next handler die at that point, once.

        `in_handler` is the handler's first use of `current_node()`'s methods, or its end.
        """
        if point not in DeathPoint.__args__:  # type: ignore[attr-defined]
            raise ValueError(f"There is no point {point!r}.")
        self._death = point

    # The outbox -----------------------------------------------------------------------

    def send(self, publications: Sequence[Publication], using: str) -> None:
        """Take messages instead of the broker."""
        for publication in publications:
            due_at = self._now + timedelta(seconds=publication.countdown)
            self._in_flight.append(Message(replace(publication, countdown=0), using, due_at))

    def hand_over(self, task: str, *, headers: dict[str, Any], **message: Any) -> None:
        """Let the other code base have the call; the test reports what became of it."""
        del task, headers, message

    def on_commit(self, function: Callable[[], None], using: str) -> None:
        """Remember what is to be done; a TestCase never commits, so `run` does it."""
        del using
        self._after_commit.append(function)

    def prepare(self, publication: Publication, using: str) -> None:
        """Messages here are lists; there is nothing to prepare."""

    def call_task(self, name: str, queue: str = "", /, **kwargs: Any) -> None:
        """Call a task that is no node next, as if a worker had taken it at once."""
        del queue
        # Not in place: a task that has another one called may do so again and again.
        call = partial(registered_task(name).apply, kwargs=kwargs, throw=True)
        self._after_commit.append(call)

    def depth(self, queue: str) -> int | None:
        """Count the messages of all queues that are due: the Simulation has one."""
        del queue
        return sum(message.due_at <= self._now for message in self._in_flight)

    def _commit(self) -> None:
        while self._after_commit:
            self._is_quiet = False
            self._after_commit.pop(0)()

    # The worker -----------------------------------------------------------------------

    @property
    def _app(self) -> Celery:
        return app_in_use()

    def _deliver(self, message: Message) -> None:
        self._is_quiet = False
        publication = message.publication
        task = self._app.tasks.get(publication.task)
        if task is None:
            return  # as a worker that does not know the task: the message is dropped
        claim_id = UUID(int=self._random.getrandbits(128), version=4)
        task_id = str(uuid5(claim_id, publication.task))
        request = {
            "id": task_id,
            "hostname": WORKER,
            "delivery_info": {},
            "ignore_result": True,
            "is_eager": False,
            **deepcopy(header(message.using, publication, task_id)),
            CLAIM_HEADER: str(claim_id),
        }
        try:
            self._tracer(task)(task_id, [], {}, request)
        except WorkerDied:
            self._after_commit.clear()

    def _tracer(self, task: Task[Any, Any]) -> Any:
        if task.name not in self._tracers:
            make_node_capable(self._app)  # it may have been registered meanwhile
            self._tracers[task.name] = build_tracer(task.name, task, app=self._app)
        return self._tracers[task.name]

    def _reached(self, name: str) -> None:
        if name == "before_handler":
            self._note_call()
        if self._death is None:
            return
        is_end = self._death == "in_handler" and name == "after_handler"
        if name == self._death or is_end:
            self._death = None
            self._silence_hooks()
            raise WorkerDied(name)

    def _silence_hooks(self) -> None:
        """Celery sends task_postrun even so; a dead worker has no hooks."""
        task = self._app.current_task
        if task is not None and (run := run_of(task.request)) is not None:
            run.pop_after_commit()

    def _note_call(self) -> None:
        task = self._app.current_task
        run = run_of(task.request) if task else None
        assert task is not None
        assert run is not None
        node = run.claim.node
        if self._death == "before_handler":
            return
        self.calls.append(
            Call(node.task, list(node.args), dict(node.kwargs), node.pk, node.attempt, self._now)
        )

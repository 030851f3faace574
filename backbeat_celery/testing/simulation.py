"""A Simulation replaces the broker and the clock, and nothing else.

Rows, engine and task code are the same as in production: each delivery goes through Celery's
tracer, the claim, the record and the signal receivers.
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
from backbeat_celery.engine.order.expiry import MAY_EXPIRE
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
    """A message that is sent and not delivered."""

    publication: Publication
    using: str
    due_at: datetime


class Simulation:
    """Run workflows inside a test: `with Simulation() as sim: signal(...); sim.run()`.

    `seed` determines the order in which messages are delivered. `start` is the time at which
    the engine's clock starts, by default now. Works inside a Django `TestCase`.
    """

    def __init__(self, seed: int = 0, start: datetime | None = None) -> None:
        self._random = random.Random(seed)
        self._now = start or timezone.now()
        if self._now.tzinfo is None:
            raise ValueError("start must be an aware datetime.")
        self._in_flight: list[Message] = []
        self._after_commit: list[Callable[[], object]] = []
        self._death: str | None = None
        self._sweeps: dict[str, Sweep] = {}
        self._next_sweep = self._now
        self._is_idle = False
        self._tracers: dict[str, Any] = {}
        self._stack = ExitStack()
        self.calls: list[Call] = []
        """Every call of a handler so far, in order."""

    def __enter__(self) -> Simulation:
        self._stack.enter_context(clock.simulated(lambda: self._now))
        self._stack.enter_context(replaced_outbox(self))
        self._stack.enter_context(failpoints.watched(self._on_failpoint))
        make_node_capable(self._app)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @property
    def now(self) -> datetime:
        """The time on the engine's clock."""
        return self._now

    @property
    def in_flight(self) -> int:
        """The number of messages that are not delivered, including those that are due later."""
        self._commit()
        return len(self._in_flight)

    def run(self, max_steps: int = 100_000) -> None:
        """Deliver messages in an order given by the seed, until none is due."""
        for _ in range(max_steps):
            if not self.step():
                return
        raise AssertionError(f"Messages are still due after {max_steps} deliveries.")

    def step(self) -> bool:
        """Deliver one message that is due now; False if there is none."""
        self._commit()
        due = [index for index, m in enumerate(self._in_flight) if m.due_at <= self._now]
        if not due:
            return False
        self._deliver(self._in_flight.pop(self._random.choice(due)))
        return True

    def advance(self, duration: timedelta | None = None, **units: float) -> None:
        """Move the clock forward; run what becomes due on the way, in order of time.

        Takes a timedelta or its arguments: `sim.advance(hours=2)`.
        """
        end = self._now + (duration or timedelta(**units))
        self._is_idle = False  # the test may have changed rows since
        self.run()
        while self._now < end:
            times = [m.due_at for m in self._in_flight if m.due_at > self._now]
            sweep = self._useful_sweep()
            self._now = min([sweep, end, *times])
            if self._now >= sweep:
                self.sweep()
            self.run()

    def _useful_sweep(self) -> datetime:
        """The time of the next sweep that may find something.

        While nothing else happens, sweeps before the next time in any row find nothing.
        """
        if not self._is_idle:
            return self._sweep_from(self._now)
        if (due := self._next_time()) is None:
            return datetime.max.replace(tzinfo=UTC)
        return self._sweep_from(max(due, self._now))

    def _sweep_from(self, time: datetime) -> datetime:
        """The time of the first sweep that is not before `time`."""
        interval = timedelta(seconds=settings.sweep_interval)
        skipped = max(0, math.ceil((time - self._next_sweep) / interval))
        return self._next_sweep + skipped * interval

    def _next_time(self) -> datetime | None:
        """The earliest time in the rows of all databases."""
        times = {name: Min(name) for name in ("publish_at", "lease_expires_at", "times_out_at")}
        times["expires"] = Min("expires_at", filter=MAY_EXPIRE)
        nodes = [Node.objects.using(using) for using in self._databases]
        rows = [some.aggregate(**times).values() for some in nodes]
        return min((time for row in rows for time in row if time is not None), default=None)

    @property
    def _databases(self) -> Sequence[str]:
        return settings.databases or [node_alias()]

    def sweep(self) -> None:
        """Run one sweep now; `advance` runs one at each interval."""
        self._commit()
        self._next_sweep = self._now + timedelta(seconds=settings.sweep_interval)
        self._is_idle = True
        for using in self._databases:
            if +self._sweeps.setdefault(using, Sweep(using)).run():
                self._is_idle = False

    def lose_messages(self) -> int:
        """Lose all messages that are not delivered; give their number."""
        self._commit()
        count = len(self._in_flight)
        self._in_flight.clear()
        return count

    def duplicate_messages(self) -> int:
        """Duplicate all messages that are not delivered; give their number."""
        self._commit()
        count = len(self._in_flight)
        self._in_flight += self._in_flight
        return count

    def kill_next(self, point: DeathPoint) -> None:
        """Let the worker of the next handler die at this point, once.

        `in_handler` is the handler's first use of `current_node()`'s methods, or its end.
        """
        if point not in DeathPoint.__args__:  # type: ignore[attr-defined]
            raise ValueError(f"Unknown point {point!r}.")
        self._death = point

    # The outbox -----------------------------------------------------------------------

    def send(self, publications: Sequence[Publication], using: str) -> None:
        """Keep messages instead of sending them to a broker."""
        for publication in publications:
            due_at = self._now + timedelta(seconds=publication.countdown)
            self._in_flight.append(Message(replace(publication, countdown=0), using, due_at))

    def hand_over(self, task: str, *, headers: dict[str, Any], **message: Any) -> None:
        """Drop a remote node's call; the test reports its result."""
        del task, headers, message

    def on_commit(self, function: Callable[[], None], using: str) -> None:
        """Keep the function for `run`, since a TestCase never commits."""
        del using
        self._after_commit.append(function)

    def prepare(self, publication: Publication, using: str) -> None:
        """Do nothing: there is no message to build."""

    def call_task(self, name: str, queue: str = "", /, **kwargs: Any) -> None:
        """Call a task that is not a node at the next step, as a worker would do."""
        del queue
        # Not at once, since such a task may send another one, and so on.
        call = partial(registered_task(name).apply, kwargs=kwargs, throw=True)
        self._after_commit.append(call)

    def depth(self, queue: str) -> int | None:
        """Count all due messages: the Simulation has one queue."""
        del queue
        return sum(message.due_at <= self._now for message in self._in_flight)

    def _commit(self) -> None:
        while self._after_commit:
            self._is_idle = False
            self._after_commit.pop(0)()

    # The worker -----------------------------------------------------------------------

    @property
    def _app(self) -> Celery:
        return app_in_use()

    def _deliver(self, message: Message) -> None:
        self._is_idle = False
        publication = message.publication
        task = self._app.tasks.get(publication.task)
        if task is None:
            return  # a worker that does not know the task drops the message
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
            make_node_capable(self._app)  # the task may be registered only now
            self._tracers[task.name] = build_tracer(task.name, task, app=self._app)
        return self._tracers[task.name]

    def _on_failpoint(self, name: str) -> None:
        if name == "before_handler":
            self._note_call()
        if self._death is None:
            return
        is_end = self._death == "in_handler" and name == "after_handler"
        if name == self._death or is_end:
            self._death = None
            self._discard_after_commit()
            raise WorkerDied(name)

    def _discard_after_commit(self) -> None:
        """Celery still sends task_postrun, but a dead worker would not advance."""
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

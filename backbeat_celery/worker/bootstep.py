"""What lives in each worker: lease renewal, the sweeper, and connections of its own.

Threads rather than timers of the event loop, because the loops of the solo and gevent pools
stand still while a handler runs.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any
from uuid import uuid4

from celery import bootsteps, signals
from django.db import Error as DatabaseTrouble
from django.db import connections

from backbeat_celery.conf import settings
from backbeat_celery.engine.repair import heartbeats, leader, worker_events
from backbeat_celery.engine.repair.sweep import Sweep
from backbeat_celery.models import node_alias
from backbeat_celery.runtime import content_type, failpoints, migration_state, sessions
from backbeat_celery.runtime.compat.worker import (
    active_requests,
    child_of,
    module_of_pool,
    queues_of,
)
from backbeat_celery.runtime.lock_timeouts import RowHeld
from backbeat_celery.runtime.transactions import is_outage
from backbeat_celery.worker.deliveries import deliveries
from backbeat_celery.worker.shutdown import ColdShutdownStep, ConnectionLossStep, is_going_down
from backbeat_celery.worker.task import make_node_capable

logger = logging.getLogger(__name__)

END_SECONDS = 5
"""How long the end of a worker waits for each of our threads."""

SOON = 1.0
"""Seconds until renewals are tried again that failed, or that met a locked row."""

PAUSE = 0.2
"""Seconds between two looks at whether there is something to do."""


def prepare(worker: Any, *, alone: bool) -> None:
    """Fit a worker that is about to start: its tasks, its connections, its threads.

    It is not `alone` in its process in a test, whose transaction it may have to share.
    """
    if BackbeatStep in worker.app.steps["worker"]:
        return
    content_type.accept(worker.app)
    if alone:
        sessions.keep_apart()
    # A project may discover tasks by hand, but a worker without ours loses remote results.
    import_module("backbeat_celery.tasks")
    make_node_capable(worker.app)
    worker.app.steps["worker"].add(BackbeatStep)
    worker.app.steps["consumer"].update((ColdShutdownStep, ConnectionLossStep))


class BackbeatStep(bootsteps.StartStopStep):
    """Starts the threads once the pool is there, so that no child is forked with them."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self._threads: list[Repeater] = []

    def start(self, worker: Any) -> None:
        make_node_capable(worker.app)
        name = f"{worker.hostname}:{uuid4().hex[:8]}"
        self._threads = [
            LeaseKeeper(has_children="prefork" in module_of_pool(worker)),
            Sweeper(name),
            Pulse(worker),
        ]
        for thread in self._threads:
            thread.start_in(worker)
        # The first comes when the pool has ended, but not in a cold shutdown.
        signals.worker_shutdown.connect(self._end, sender=worker, weak=False)
        atexit.register(self._end)

    def stop(self, parent: Any) -> None:
        """Stop sweeping; leases are renewed until the pool has ended, since handlers still run."""
        for thread in self._threads:
            if isinstance(thread, (Sweeper, Pulse)):
                thread.is_stopped = True

    terminate = stop

    def _end(self, **_: Any) -> None:
        """Wait for the threads: one that is in libpq when the interpreter ends would crash it."""
        threads, self._threads = self._threads, []
        for thread in threads:
            thread.is_stopped = True
        for thread in threads:
            thread.join(END_SECONDS)


class Repeater:
    """Does its work again and again, whatever goes wrong, until it is stopped."""

    is_stopped = False
    join: Callable[[float], object]
    """Waits until it has ended, for at most so many seconds."""

    def start_in(self, worker: Any) -> None:
        """Run beside the worker in a thread that the pool's kind cannot block."""
        if "gevent" in module_of_pool(worker):
            from gevent import get_hub

            self.join = get_hub().threadpool.spawn(self.run).wait
            return
        thread = threading.Thread(target=self.run, name=type(self).__name__, daemon=True)
        thread.start()
        self.join = thread.join

    def run(self) -> None:
        while not self.is_stopped:
            try:
                self.work()
            except Exception as exc:
                if not migration_state.tell(exc):
                    logger.exception("%s goes on after an error", type(self).__name__)
            finally:
                # No connection outlives a round: a child forked later must not inherit one.
                with suppress(Exception):
                    connections.close_all()
            self.wait()
        try:
            self.end()
        except Exception as exc:
            if not migration_state.tell(exc):
                raise

    def work(self) -> None:
        raise NotImplementedError

    def wait(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        """Clean up after the last round."""


class LeaseKeeper(Repeater):
    """Renews the leases of what this worker runs, and mends what its children left behind."""

    def __init__(self, *, has_children: bool) -> None:
        self._has_children = has_children
        self._next_renewal = 0.0
        self._held: list[Callable[[], None]] = []
        """Hints for the next round of renewals: a row was locked, or the database away."""

    def work(self) -> None:
        if time.monotonic() >= self._next_renewal:
            # Should it fail, or find a row locked, it is done again soon.
            self._next_renewal = time.monotonic() + SOON
            failpoints.reached("before_renewal")
            again, self._held = self._held, []
            requests = list(active_requests)
            dead = [r for r in requests if self._has_children and _is_dead(child_of(r))]
            running = deliveries.of([r for r in requests if r not in dead])
            if worker_events.renew(running):
                self._next_renewal = time.monotonic() + settings.lease / 3
            for message in deliveries.of(dead):
                self._heed(
                    partial(worker_events.worker_lost, message, in_shutdown=is_going_down())
                )
            for hint in again:
                deliveries.hints.put(hint)
        with suppress(queue.Empty):
            # One a round: renewals must not wait for a long line of them.
            self._heed(deliveries.hints.get_nowait())

    def _heed(self, hint: Callable[[], None]) -> None:
        try:
            hint()
        except RowHeld:
            self._keep(hint)
        except DatabaseTrouble as exc:
            if not is_outage(exc):
                raise
            logger.warning("Cannot tell the database what became of a child: %r.", exc)
            self._keep(hint)

    def _keep(self, hint: Callable[[], None]) -> None:
        self._held.append(hint)
        self._next_renewal = min(self._next_renewal, time.monotonic() + SOON)

    def wait(self) -> None:
        while not self.is_stopped and not self._has_work():
            time.sleep(PAUSE)

    def _has_work(self) -> bool:
        return not deliveries.hints.empty() or time.monotonic() >= self._next_renewal

    def end(self) -> None:
        """Do what the end of the pool has left to do."""
        until = time.monotonic() + 2 * SOON
        try:
            self._heed_all()
            # Locks of a child that was killed go when the server notices.
            while self._held and time.monotonic() < until:
                time.sleep(PAUSE)
                self._heed_all()
        finally:
            connections.close_all()

    def _heed_all(self) -> None:
        again, self._held = self._held, []
        for hint in again:
            self._heed(hint)
        with suppress(queue.Empty):
            while True:
                self._heed(deliveries.hints.get_nowait())


class Sweeper(Repeater):
    """Sweeps while this worker holds the right to; otherwise tries to get it."""

    def __init__(self, holder: str) -> None:
        self._holder = holder
        self._sweeps: dict[str, Sweep] = {}
        self._next_pass = 0.0

    def work(self) -> None:
        self._next_pass = time.monotonic() + settings.sweep_interval
        for using in settings.databases or [node_alias()]:
            try:
                self._sweep(using)
            except DatabaseTrouble as exc:
                if not migration_state.tell(exc):
                    logger.exception("Cannot sweep the database %s", using)

    def _sweep(self, using: str) -> None:
        if leader.take(self._holder, settings.sweep_interval * 3, using):
            self._sweeps.setdefault(using, Sweep(using)).run()
            heartbeats.forget(using)
            leader.note_sweep(self._holder, using)

    def wait(self) -> None:
        while not self.is_stopped and time.monotonic() < self._next_pass:
            time.sleep(PAUSE)

    def end(self) -> None:
        for using in self._sweeps:
            leader.release(self._holder, using)
        connections.close_all()


class Pulse(Repeater):
    """Writes that this worker lives, for those who watch; nothing is decided by it."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._name = str(worker.hostname)
        self._pool = module_of_pool(worker).rpartition(".")[2]
        self._concurrency = int(worker.concurrency or 0)
        self._next_beat = 0.0

    def work(self) -> None:
        self._next_beat = time.monotonic() + heartbeats.BEAT
        for using in settings.databases or [node_alias()]:
            heartbeats.beat(
                self._name,
                using,
                pool=self._pool,
                concurrency=self._concurrency,
                running=len(active_requests),
                queues=queues_of(self._worker),
            )

    def wait(self) -> None:
        while not self.is_stopped and time.monotonic() < self._next_beat:
            time.sleep(PAUSE)

    def end(self) -> None:
        for using in settings.databases or [node_alias()]:
            heartbeats.leave(self._name, using)
        connections.close_all()


def _is_dead(pid: int | None) -> bool:
    """Whether a pool process is gone: some transports let the pool notice that only late."""
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False

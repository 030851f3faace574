"""The threads of each worker: lease renewal, the sweeper and the heartbeat.

They are threads and not timers of the event loop, because the loops of the solo and gevent
pools are blocked while a handler runs.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from django.db import Error as AnyDatabaseError
from django.db import connections

from backbeat_celery.conf import settings
from backbeat_celery.engine.repair import heartbeats, leader, worker_events
from backbeat_celery.engine.repair.sweep import Sweep
from backbeat_celery.models import node_alias
from backbeat_celery.runtime import failpoints, migration_state
from backbeat_celery.runtime.compat.worker import (
    active_requests,
    child_of,
    module_of_pool,
    queues_of,
)
from backbeat_celery.runtime.lock_timeouts import RowLocked
from backbeat_celery.runtime.transactions import is_outage
from backbeat_celery.worker.deliveries import deliveries
from backbeat_celery.worker.shutdown import is_going_down

logger = logging.getLogger(__name__)

RETRY_AFTER = 1.0
"""Seconds until a renewal is tried again that failed or met a locked row."""

POLL_INTERVAL = 0.2
"""Seconds between two checks for work."""


class PeriodicThread:
    """A thread that repeats `work`, also after an error, until `is_stopped` is set."""

    is_stopped = False
    join: Callable[[float], object]
    """Waits for the thread to end, for at most that many seconds."""

    def start_in(self, worker: Any) -> None:
        """Start beside the worker, in a thread that the pool's kind cannot block."""
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
                if not migration_state.log_missing_tables(exc):
                    logger.exception("Error in the thread %s; it continues", type(self).__name__)
            finally:
                # A child process that is forked later must not inherit a connection.
                with suppress(Exception):
                    connections.close_all()
            self.wait()
        try:
            self.end()
        except Exception as exc:
            if not migration_state.log_missing_tables(exc):
                raise

    def work(self) -> None:
        """Do one round."""
        raise NotImplementedError

    def wait(self) -> None:
        """Wait for the next round, or until the thread is stopped."""
        raise NotImplementedError

    def end(self) -> None:
        """Clean up after the last round."""


class LeaseRenewer(PeriodicThread):
    """Renews the leases of what this worker runs, and ends the attempts of dead children."""

    def __init__(self, *, has_children: bool) -> None:
        self._has_children = has_children
        self._next_renewal = 0.0
        self._postponed: list[Callable[[], None]] = []
        """Events to handle in the next round: a row was locked or the database unavailable."""

    def work(self) -> None:
        if time.monotonic() >= self._next_renewal:
            self._renew()
        with suppress(queue.Empty):
            # One per round, so that a long queue of events does not delay the renewals.
            self._handle(deliveries.events.get_nowait())

    def _renew(self) -> None:
        # If it fails or meets a locked row, the renewal is repeated soon.
        self._next_renewal = time.monotonic() + RETRY_AFTER
        failpoints.hit("before_renewal")
        postponed, self._postponed = self._postponed, []
        requests = list(active_requests)
        dead = [r for r in requests if self._has_children and _is_dead(child_of(r))]
        running = deliveries.of([r for r in requests if r not in dead])
        if worker_events.renew(running):
            self._next_renewal = time.monotonic() + settings.lease / 3
        in_shutdown = is_going_down()
        for message in deliveries.of(dead):
            self._handle(partial(worker_events.worker_lost, message, in_shutdown=in_shutdown))
        for event in postponed:
            deliveries.events.put(event)

    def _handle(self, event: Callable[[], None]) -> None:
        try:
            event()
        except RowLocked:
            self._postpone(event)
        except AnyDatabaseError as exc:
            if not is_outage(exc):
                raise
            logger.warning("Cannot write the end of a child process to the database: %r.", exc)
            self._postpone(event)

    def _postpone(self, event: Callable[[], None]) -> None:
        self._postponed.append(event)
        self._next_renewal = min(self._next_renewal, time.monotonic() + RETRY_AFTER)

    def wait(self) -> None:
        while not self.is_stopped and not self._has_work():
            time.sleep(POLL_INTERVAL)

    def _has_work(self) -> bool:
        return not deliveries.events.empty() or time.monotonic() >= self._next_renewal

    def end(self) -> None:
        """Handle the events that the end of the pool has caused."""
        until = time.monotonic() + 2 * RETRY_AFTER
        try:
            self._handle_all()
            # The server releases the locks of a killed child only when it notices its end.
            while self._postponed and time.monotonic() < until:
                time.sleep(POLL_INTERVAL)
                self._handle_all()
        finally:
            connections.close_all()

    def _handle_all(self) -> None:
        postponed, self._postponed = self._postponed, []
        for event in postponed:
            self._handle(event)
        with suppress(queue.Empty):
            while True:
                self._handle(deliveries.events.get_nowait())


class Sweeper(PeriodicThread):
    """Sweeps while this worker holds the sweeper's lease; otherwise tries to acquire it."""

    def __init__(self, holder: str) -> None:
        self._holder = holder
        self._sweeps: dict[str, Sweep] = {}
        self._next_pass = 0.0

    def work(self) -> None:
        self._next_pass = time.monotonic() + settings.sweep_interval
        for using in settings.databases or [node_alias()]:
            try:
                self._sweep(using)
            except AnyDatabaseError as exc:
                if not migration_state.log_missing_tables(exc):
                    logger.exception("Cannot sweep the database %s", using)

    def _sweep(self, using: str) -> None:
        if leader.acquire(self._holder, settings.sweep_interval * 3, using):
            self._sweeps.setdefault(using, Sweep(using)).run()
            heartbeats.delete_old(using)
            leader.note_sweep(self._holder, using)

    def wait(self) -> None:
        while not self.is_stopped and time.monotonic() < self._next_pass:
            time.sleep(POLL_INTERVAL)

    def end(self) -> None:
        for using in self._sweeps:
            leader.release(self._holder, using)
        connections.close_all()


class Heartbeat(PeriodicThread):
    """Writes this worker's heartbeat for the admin and doctor; nothing else depends on it."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._name = str(worker.hostname)
        self._pool = module_of_pool(worker).rpartition(".")[2]
        self._concurrency = int(worker.concurrency or 0)
        self._next_beat = 0.0

    def work(self) -> None:
        self._next_beat = time.monotonic() + heartbeats.INTERVAL
        for using in settings.databases or [node_alias()]:
            heartbeats.write(
                self._name,
                using,
                pool=self._pool,
                concurrency=self._concurrency,
                running=len(active_requests),
                queues=queues_of(self._worker),
            )

    def wait(self) -> None:
        while not self.is_stopped and time.monotonic() < self._next_beat:
            time.sleep(POLL_INTERVAL)

    def end(self) -> None:
        for using in settings.databases or [node_alias()]:
            heartbeats.delete(self._name, using)
        connections.close_all()


def _is_dead(pid: int | None) -> bool:
    """Tell whether a pool process is gone, which the pool itself may notice late."""
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False

"""The bootstep that prepares a worker: its tasks, its connections and its threads."""

from __future__ import annotations

import atexit
from importlib import import_module
from typing import Any
from uuid import uuid4

from celery import bootsteps, signals

from backbeat_celery.runtime import content_type, sessions
from backbeat_celery.runtime.compat.worker import module_of_pool
from backbeat_celery.worker.shutdown import ColdShutdownStep, ConnectionLossStep
from backbeat_celery.worker.task import make_node_capable
from backbeat_celery.worker.threads import (
    Heartbeat,
    LeaseRenewer,
    PeriodicThread,
    Sweeper,
)

JOIN_TIMEOUT = 5
"""Seconds to wait for each thread when the worker stops."""


def prepare(worker: Any, *, alone: bool) -> None:
    """Prepare a worker that is about to start: its connections, its threads.

    `alone` is false in a test, whose transaction the worker may have to share.
    """
    if BackbeatStep in worker.app.steps["worker"]:
        return
    content_type.accept(worker.app)
    if alone:
        sessions.keep_apart()
    # What each child of a pool needs for its first node is imported before it is forked.
    import_module("backbeat_celery.worker.begin")
    make_node_capable(worker.app)
    worker.app.steps["worker"].add(BackbeatStep)
    worker.app.steps["consumer"].update((ColdShutdownStep, ConnectionLossStep))


class BackbeatStep(bootsteps.StartStopStep):
    """Starts the threads after the pool, so that no child process is forked with them."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self._threads: list[PeriodicThread] = []

    def start(self, worker: Any) -> None:
        make_node_capable(worker.app)
        name = f"{worker.hostname}:{uuid4().hex[:8]}"
        self._threads = [
            LeaseRenewer(has_children="prefork" in module_of_pool(worker)),
            Sweeper(name),
            Heartbeat(worker),
        ]
        for thread in self._threads:
            thread.start_in(worker)
        # The signal comes after the pool has stopped. A cold shutdown does not send it.
        signals.worker_shutdown.connect(self._end, sender=worker, weak=False)
        atexit.register(self._end)

    def stop(self, parent: Any) -> None:
        """Stop sweeping. Leases are renewed until the pool has stopped: handlers still run."""
        for thread in self._threads:
            if isinstance(thread, (Sweeper, Heartbeat)):
                thread.is_stopped = True

    terminate = stop

    def _end(self, **_: Any) -> None:
        """Join the threads: one that is inside libpq when the interpreter ends would crash it."""
        threads, self._threads = self._threads, []
        for thread in threads:
            thread.is_stopped = True
        for thread in threads:
            thread.join(JOIN_TIMEOUT)

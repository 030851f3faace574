"""Two or more workers in one process, each with a database connection, stopped where we like."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from django.db import connection, connections, transaction

from backbeat_celery.engine.after_commit import Publication
from backbeat_celery.engine.delivery.outbox import replaced_outbox
from backbeat_celery.runtime import failpoints
from tests.services import database_kind

DEADLINE = 120.0
"""Seconds: for hangs only, however slow the machine is."""
RACES = [
    pytest.mark.skipif(
        database_kind() == "sqlite", reason="SQLite has one writer, so nothing races there"
    ),
    pytest.mark.django_db(transaction=True),
]
BLOCKED = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity "
    "WHERE wait_event_type = 'Lock' AND datname = current_database()",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
}


def repeated(times: int) -> pytest.MarkDecorator:
    """Run a race that is met by chance several times, of which the default run takes three."""
    rest = [pytest.param(n, marks=pytest.mark.slow) for n in range(3, times)]
    return pytest.mark.parametrize("repetition", [*range(min(times, 3)), *rest])


class RecordingOutbox:
    """Notes messages instead of sending them."""

    def __init__(self) -> None:
        self.sent: list[Publication] = []

    def send(self, publications: Sequence[Publication], using: str) -> None:
        self.sent += publications

    def prepare(self, publication: Publication, using: str) -> None:
        pass

    def depth(self, queue: str) -> int | None:
        return None

    def on_commit(self, function: Callable[[], None], using: str) -> None:
        transaction.on_commit(function, using=using)


class Stop:
    """A place where a thread waits until it is let go."""

    def __init__(self) -> None:
        self._arrived, self._released = threading.Event(), threading.Event()

    def hold(self) -> None:
        self._arrived.set()
        assert self._released.wait(DEADLINE), "nobody let the thread go"

    def wait(self) -> None:
        """Return once the thread is there."""
        assert self._arrived.wait(DEADLINE), "the thread never came to its stop"

    def release(self) -> None:
        self._released.set()


class Points:
    """Stops threads at named points of the engine."""

    def __init__(self) -> None:
        self._callbacks: dict[tuple[str, str], Callable[[], Any]] = {}
        self.stack = ExitStack()

    def __call__(self, name: str) -> None:
        callback = self._callbacks.pop((threading.current_thread().name, name), None)
        if callback is not None:
            callback()

    def stop(self, thread: str, point: str) -> Stop:
        """Let a thread wait when it first comes by a point."""
        stop = Stop()
        self._call(stop.hold, thread, point)
        return stop

    def meet(self, point: str, *threads: str) -> None:
        """Let threads wait for each other when they first come by a point."""
        barrier = threading.Barrier(len(threads), timeout=DEADLINE)
        for thread in threads:
            self._call(barrier.wait, thread, point)

    def _call(self, callback: Callable[[], Any], thread: str, point: str) -> None:
        self._callbacks[thread, point] = callback
        # From now on every step is made statement by statement.
        self.stack.enter_context(failpoints.watched(self))


def start(function: Callable[[], Any], name: str) -> Future[Any]:
    """Run a function in a thread with a connection of its own."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as exc:
            future.set_exception(exc)
        finally:
            connections.close_all()

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def together(*functions: Callable[[], Any]) -> list[Any]:
    """Run functions at the same instant; give their results, or raise what one raised."""
    barrier = threading.Barrier(len(functions), timeout=DEADLINE)

    def begin(function: Callable[[], Any]) -> Any:
        connection.ensure_connection()
        barrier.wait()
        return function()

    futures = [
        start(lambda function=function: begin(function), f"thread {number}")
        for number, function in enumerate(functions)
    ]
    return [future.result(DEADLINE) for future in futures]


@contextmanager
def held_open(function: Callable[[], Any]) -> Iterator[Future[Any]]:
    """Run a function in another thread's transaction, committed when the block ends."""
    stop = Stop()

    def run() -> Any:
        with transaction.atomic():
            result = function()
            stop.hold()
        return result

    future = start(run, "holder")
    stop.wait()
    try:
        yield future
    finally:
        stop.release()
        future.exception(DEADLINE)


def wait_until_blocked(count: int = 1) -> None:
    """Return once the database reports that many connections waiting for a lock."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute(BLOCKED[connection.vendor])
            if cursor.fetchone()[0] >= count:
                return
        time.sleep(0.12)  # InnoDB refreshes this table at most every 0.1 s
    raise AssertionError("nobody waits for a lock")


@contextmanager
def engine() -> Iterator[tuple[Points, RecordingOutbox]]:
    """The engine with stops instead of a broker.

    Unless a test asks for a stop, what production sends in one piece is sent in one piece.
    """
    stops, outbox = Points(), RecordingOutbox()
    with replaced_outbox(outbox), failpoints.watched(stops, in_transactions=False), stops.stack:
        yield stops, outbox

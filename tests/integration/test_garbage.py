"""What task calls leave in a worker's memory: no ring of exception, traceback and frames."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from types import TracebackType

import pytest

from backbeat_celery import signal
from tests import workflows


@pytest.fixture
def tracebacks_left() -> Iterator[Callable[[], int]]:
    """Count the tracebacks that only Python's collector can remove."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)

    def count() -> int:
        gc.collect()
        found = sum(isinstance(thing, TracebackType) for thing in gc.garbage)
        gc.garbage.clear()
        return found

    yield count
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def fail(task):
    try:
        raise KeyError("the first cause")
    except KeyError as exc:
        raise RuntimeError("no") from exc


def test_failed_attempts_leave_none(sim, script, send, tracebacks_left):
    script(fail)
    node = send(workflows.scripted.s())
    sim.advance(hours=5)
    node.refresh_from_db()
    assert (node.status, node.attempt) == ("failed", 3)
    assert tracebacks_left() == 0


def test_a_retry_that_the_handler_asks_for_leaves_none(sim, script, send, tracebacks_left):
    script(lambda task: task.retry(exc=RuntimeError("later")))
    assert send(workflows.scripted.s()).status == "retrying"
    assert tracebacks_left() == 0


def test_refused_messages_leave_none(sim, tracebacks_left):
    node = signal(workflows.done.s(), subject="camera")
    sim.duplicate_messages()
    sim.run()
    node.refresh_from_db()
    assert (node.status, len(sim.calls)) == ("complete", 1)
    assert tracebacks_left() == 0

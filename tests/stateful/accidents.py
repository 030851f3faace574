"""What may happen to messages, workers and time, and how a process dies in a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from celery import current_app
from django.db import transaction

from backbeat_celery.runtime.failpoints import WorkerDied
from backbeat_celery.worker.current_run import run_of

ALL_DEATHS = ["before_handler", "in_handler", "after_handler", "after_record"]
ALL_POINTS = [
    *("before_claim", "before_handler", "in_handler", "after_handler", "before_record"),
    *("recorded", "after_record", "before_advance", "looked", "looked", "sweep_completed"),
]
ACCIDENTS = ["add", "add to all", "add above", "sweep", "deliver", "expire", "die", "double"]
IN_ATTEMPT = ["before_handler", "in_handler", "after_handler", "before_record"]
ALL_SECONDS = [1, 10, 31, 61, 600, 3700]


@contextmanager
def mortal() -> Iterator[None]:
    """Let a process die without the test."""
    with suppress(WorkerDied):
        yield


@contextmanager
def dead_processes_do_nothing() -> Iterator[None]:
    """Forget what a dead worker would have done next; Celery calls its last hooks even so."""
    try:
        yield
    except WorkerDied:
        task = current_app.current_task
        if task is not None and (run := run_of(task.request)):
            run.pop_after_commit()
        raise


@contextmanager
def rolled_back() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)

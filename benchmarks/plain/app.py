"""The Celery app of the peers: Celery's own defaults."""

import os

from celery import Celery

from benchmarks import quorum
from benchmarks.ticks import tick

app = Celery(
    "plain", broker=os.environ["BENCH_BROKER"], backend=os.environ.get("BENCH_BACKEND") or None
)
app.conf.update(task_default_queue="plain", broker_connection_retry_on_startup=True)
quorum.declare(app, "plain")


@app.task(ignore_result=True)
def nothing() -> None:
    """Do nothing but note the time, and keep no result."""
    tick()


@app.task
def step(*_: object) -> None:
    """Do nothing but note the time, as part of a canvas."""
    tick()


@app.task
def join(results: object) -> None:
    """Follow a chord's header."""

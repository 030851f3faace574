"""Queues of another type, if the environment asks for it: `BENCH_QUEUE_TYPE=quorum`."""

from __future__ import annotations

import os

from celery import Celery
from kombu import Queue


def declare(app: Celery, *names: str) -> None:
    """Give an app its queues, and the one that a workload has its messages wait in."""
    if kind := os.environ.get("BENCH_QUEUE_TYPE"):
        arguments = {"x-queue-type": kind}
        queues = [Queue(name, queue_arguments=arguments) for name in (*names, "load")]
        app.conf.update(task_queues=queues, task_default_queue_type=kind)

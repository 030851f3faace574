"""A worker process of absurd: `python -m benchmarks.absurd.worker QUEUE`."""

from __future__ import annotations

import os
import sys
from typing import Any

from absurd_sdk import Absurd

from benchmarks.ticks import tick

POLLING = 0.05
"""Seconds between two looks at an empty queue, as for DBOS; its default is 0.25 s."""

BATCH = 4
"""Tasks claimed at once: Celery's prefetch multiplier. Its default is one."""


def make(queue: str) -> Absurd:
    """A client and its tasks, for one queue."""
    app = Absurd(f"{os.environ['BENCH_POSTGRES']}/absurd", queue_name=queue)

    @app.register_task(name="nothing", queue="bench")
    def nothing(params: Any, ctx: Any) -> None:
        tick()

    @app.register_task(name="fan_out", queue="parents")
    def fan_out(params: Any, ctx: Any) -> int:
        # A task may only wait for tasks of another queue, and does so one by one.
        children = [app.spawn("nothing", {}, queue="bench") for _ in range(params["children"])]
        results = [ctx.await_task_result(child["task_id"], "bench") for child in children]
        return sum(result.state == "completed" for result in results)

    return app


if __name__ == "__main__":
    make(sys.argv[1]).start_worker(batch_size=BATCH, poll_interval=POLLING)

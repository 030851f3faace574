"""W7: a million timers that are not due: memory of the worker, time of a sweep, lateness.

The lateness is that of a few hundred other timers, which fall due meanwhile: half of them
within the horizon, with a message that a worker holds, and half beyond it, published by the
sweeper. It is the time between `fires_at` and the claim, on the database's clock.
"""

from __future__ import annotations

import statistics
import time

from benchmarks.harness import Round, main, wait_for_ticks

DUE = 300
"""Timers that fall due while we watch."""

SPAN = (30.0, 90.0)
"""Seconds ahead, on both sides of the default horizon of 60 s."""

SETTLING = 15.0
"""Seconds in which the worker's sweeper has met all the timers, three times."""

ENOUGH = 10_000
"""With fewer timers this is a trial, and everything is ten times as soon."""


def ours(run: Round) -> None:
    """Timers of a node."""
    from backbeat_celery import signal
    from backbeat_celery.engine.repair.sweep import Sweep
    from backbeat_celery.models import Node, Workflow
    from benchmarks.ours import seed
    from benchmarks.ours.project import started_worker
    from benchmarks.ours.tasks import nothing

    pace = 1.0 if run.size >= ENOUGH else 0.1
    with started_worker() as worker:
        workflow = Workflow.objects.for_subject("timers", "timers")
        time.sleep(pace * SETTLING)
        before = worker.memory()
        seed.timers(workflow, run.size)
        time.sleep(pace * SETTLING)
        first, last = SPAN
        for number in range(DUE):
            delay = pace * (first + (last - first) * number / DUE)
            signal(nothing, subject=f"due {number}", delay=delay)
        sweep, took = Sweep("default"), []
        with run.timed(DUE):
            while len(took) < 10:
                start = time.perf_counter()
                sweep.run()
                took.append(time.perf_counter() - start)
                time.sleep(pace)
            wait_for_ticks(DUE, last + 60)
        run.figure_memory(before, worker.memory())
        due = Node.objects.filter(workflow__subject__startswith="due ", task=nothing.name)
        late = [
            (node.started_at - node.fires_at).total_seconds()
            for node in due.only("started_at", "fires_at")
        ]
        assert len(late) == DUE
        assert min(late) >= 0
        assert Node.objects.filter(name="timer", status="queued").count() == run.size
    cuts = statistics.quantiles(late, n=100)
    run.figures(
        {"sweep, s": statistics.median(took), "late, p50, s": cuts[49], "late, p99, s": cuts[98]}
    )


if __name__ == "__main__":
    main(ours=ours)

"""W6: from the call of `signal()` to the start of the handler, one at a time, nothing else on."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from benchmarks import ticks
from benchmarks.harness import Round, main, wait_for_ticks
from benchmarks.servers import until

PAUSE = 0.02
"""Seconds without work before each one, so that everything is idle."""


def ours(run: Round) -> None:
    """A signal to a new workflow."""
    from backbeat_celery import signal
    from backbeat_celery.models import Node
    from benchmarks.ours.project import check, started_worker
    from benchmarks.ours.tasks import nothing

    subjects = iter(map(str, range(run.size)))
    with started_worker():
        _measure(run, lambda: signal(nothing, subject=next(subjects)))
        until(lambda: not Node.objects.filter(task=nothing.name, finished_at=None), 30, "the last")
        check(run.size)


def celery(run: Round) -> None:
    """`apply_async()`."""
    from benchmarks.plain.project import nothing, started_worker

    with started_worker():
        _measure(run, nothing.apply_async)


def _measure(run: Round, call: Callable[[], object]) -> None:
    sent = []
    for number in range(run.size):
        time.sleep(PAUSE)
        sent.append(time.time())
        call()
        wait_for_ticks(number + 1, 30)
    # One at a time, so the calls and the starts have the same order.
    took = [1000 * (at - before) for at, before in zip(ticks.times(), sent, strict=True)]
    run.note(run.size, sum(took) / 1000)
    cuts = statistics.quantiles(took, n=100)
    run.figures({"p50, ms": cuts[49], "p99, ms": cuts[98]})


if __name__ == "__main__":
    main(ours=ours, celery=celery)

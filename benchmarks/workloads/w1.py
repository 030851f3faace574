"""W1: independent nodes that do nothing, one workflow each, all queued at the start."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks import ticks
from benchmarks.harness import PATIENCE, Round, main, wait_for_ticks
from benchmarks.servers import until


def ours(run: Round) -> None:
    """Signals of as many workflows."""
    _signals(run, in_bundles=False)


def ours_bundles(run: Round) -> None:
    """The same, up to fifty a message."""
    _signals(run, in_bundles=True)


def _signals(run: Round, in_bundles: bool) -> None:
    from backbeat_celery import signal_many
    from backbeat_celery.models import Node
    from benchmarks.ours.project import app, check, started_worker
    from benchmarks.ours.tasks import bundled, nothing

    task = bundled if in_bundles else nothing
    with started_worker() as worker:
        signature = task.s().set(queue="load")
        for start in range(0, run.size, 500):
            numbers = range(start, min(start + 500, run.size))
            signal_many([(signature, {"subject": str(number)}) for number in numbers])
        unfinished = Node.objects.filter(task=task.name, finished_at=None)
        with run.timed(run.size, worker):
            app.control.add_consumer("load")
            _wait_from_first(run, lambda: not unfinished.exists())
    check(run.size)


def celery(run: Round) -> None:
    """Tasks without results: nothing is kept of them."""
    from benchmarks.plain.project import app, nothing, started_worker

    with started_worker() as worker:
        with app.producer_pool.acquire() as producer:
            for _ in range(run.size):
                nothing.apply_async(queue="load", producer=producer)
        with run.timed(run.size, worker):
            app.control.add_consumer("load")
            _wait_from_first(run, lambda: True)


def dbos(run: Round) -> None:
    """DBOS: a queue of workflows, on two processes; at most a thousand, since it takes minutes."""
    from benchmarks.dbos.project import call, clients, started_workers

    run.size = min(run.size, 1000)
    with clients() as client:
        with started_workers():
            call(client, "fan_out", 20).get_result()
        ticks.clear()
        handles = [call(client, "nothing") for _ in range(run.size)]
        with started_workers():
            _wait_from_first(run, lambda: all(h.get_result() is None for h in handles))


def absurd(run: Round) -> None:
    """absurd: a queue of tasks, on two processes."""
    from benchmarks.absurd.project import count_unfinished, started_workers, tasks

    app = tasks()
    ticks.clear()
    for _ in range(run.size):
        app.spawn("nothing", {})
    with started_workers():
        _wait_from_first(run, lambda: count_unfinished() == 0)


def _wait_from_first(run: Round, is_done: Callable[[], bool]) -> None:
    """Measure from the first call of a handler: how soon a worker hears of work is not meant."""
    wait_for_ticks(1, 60)
    wait_for_ticks(run.size)
    until(is_done, PATIENCE, "the last one")
    run.note(run.size, time.time() - ticks.times()[0])


if __name__ == "__main__":
    main(ours=ours, ours_bundles=ours_bundles, celery=celery, dbos=dbos, absurd=absurd)

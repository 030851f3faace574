"""W5: W2 at 1000, 10,000 and 100,000 children, and in tables full of finished nodes."""

from __future__ import annotations

import os

from benchmarks.harness import Round, main, wait_for_ticks


def ours(run: Round) -> None:
    """A node with children and a barrier."""
    _fan_out(run, run.size)


def ours_10x(run: Round) -> None:
    """Ten times as wide."""
    _fan_out(run, 10 * run.size)


def ours_100x(run: Round) -> None:
    """A hundred times as wide."""
    _fan_out(run, 100 * run.size)


def ours_full(run: Round) -> None:
    """Among a million finished nodes, or as many as the command line says."""
    from django.core.management import call_command
    from django.db import connection

    from benchmarks.ours import seed

    if not connection.introspection.table_names():
        call_command("migrate", verbosity=0)
        seed.finished(int(os.environ["BENCH_FINISHED"]))
    _fan_out(run, run.size)


def _fan_out(run: Round, children: int) -> None:
    from backbeat_celery import signal
    from benchmarks.ours.project import check, started_worker, wait_until_complete
    from benchmarks.ours.tasks import fan_out

    with started_worker() as worker:
        before = worker.memory()
        with run.timed(children, worker):
            node = signal(fan_out.s(children), subject=f"all {os.getpid()}")
            wait_for_ticks(children)
            wait_until_complete(node)
        run.figure_memory(before, worker.memory())
        check(children + 2)


if __name__ == "__main__":
    main(ours=ours, ours_10x=ours_10x, ours_100x=ours_100x, ours_full=ours_full)

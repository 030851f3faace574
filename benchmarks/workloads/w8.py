"""W8: a chord whose body gets the results of many members, each a text of a hundred characters."""

from __future__ import annotations

from typing import Any

from benchmarks import ticks
from benchmarks.harness import Round, main, wait_for_ticks

LENGTH = 100
"""Characters of each result."""


def ours(run: Round) -> None:
    """The body gets a list."""
    from benchmarks.ours.tasks import many

    _chord(run, many)


def ours_lazy(run: Round) -> None:
    """The body gets a sequence that reads in pages."""
    from benchmarks.ours.tasks import lazy_many

    _chord(run, lazy_many)


def _chord(run: Round, body: Any) -> None:
    from celery import chord

    from backbeat_celery import signal
    from benchmarks.ours.project import check, started_worker, wait_until_complete
    from benchmarks.ours.tasks import text

    with started_worker() as worker:
        with run.timed(run.size, worker):
            node = signal(chord([text.s(LENGTH)] * run.size, body.s()), subject="all")
            wait_for_ticks(run.size)
            before = worker.memory()
            wait_for_ticks(run.size + 1)
            wait_until_complete(node)
            grown = worker.memory() - before
        assert node.get_result() == run.size * LENGTH
        check(run.size + 1)
    last, body_began = ticks.times()[-2:]
    run.figures(
        {
            "from the last member to the body, ms": 1000 * (body_began - last),
            "growth, MB": grown / 1024,
        }
    )


if __name__ == "__main__":
    main(ours=ours, ours_lazy=ours_lazy)

"""W3: a chain of steps that do nothing, each begun when the one before is done."""

from __future__ import annotations

from benchmarks.harness import PATIENCE, Round, main, wait_for_ticks


def ours(run: Round) -> None:
    """A node with blocking children."""
    from backbeat_celery import signal
    from benchmarks.ours.project import check, started_worker, wait_until_complete
    from benchmarks.ours.tasks import family

    with started_worker() as worker:
        with run.timed(run.size, worker):
            node = signal(family.s(run.size, "blocking"), subject="all")
            wait_for_ticks(run.size)
            wait_until_complete(node)
        check(run.size + 1)


def ours_chain(run: Round) -> None:
    """A chain whose steps take nothing, signalled."""
    from celery import chain

    from benchmarks.ours.project import run_tree
    from benchmarks.ours.tasks import step

    run_tree(run, chain(*[step.si()] * run.size), run.size)


def ours_values(run: Round) -> None:
    """The same, each step with the result of the one before."""
    from celery import chain

    from benchmarks.ours.project import run_tree
    from benchmarks.ours.tasks import passed_on

    run_tree(run, chain(passed_on.s(1), *[passed_on.s()] * (run.size - 1)), run.size)


def chain_redis(run: Round) -> None:
    """Celery's chain; results in Redis."""
    from celery import chain

    from benchmarks.plain.project import redis_backend, started_worker, step

    redis_backend()
    with started_worker() as worker, run.timed(run.size, worker):
        result = chain(*[step.si()] * run.size).apply_async()
        wait_for_ticks(run.size)
        result.get(timeout=PATIENCE, interval=0.02)


def dbos(run: Round) -> None:
    """DBOS, on two processes."""
    from benchmarks import ticks
    from benchmarks.dbos.project import call, started_client

    with started_client() as client:
        with run.timed(run.size):
            done = call(client, "chain", run.size).get_result()
        assert done == run.size == ticks.count()


if __name__ == "__main__":
    main(
        ours=ours,
        ours_chain=ours_chain,
        ours_values=ours_values,
        chain_redis=chain_redis,
        dbos=dbos,
    )

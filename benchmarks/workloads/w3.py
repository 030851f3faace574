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
    main(ours=ours, chain_redis=chain_redis, dbos=dbos)

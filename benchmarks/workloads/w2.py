"""W2: a fan-out of nodes that do nothing, and a join."""

from __future__ import annotations

from benchmarks.harness import PATIENCE, Round, main, wait_for_ticks


def ours(run: Round) -> None:
    """A node with children and a barrier."""
    _fan_out(run, in_bundles=False)


def ours_bundles(run: Round) -> None:
    """The same, fifty children a message."""
    _fan_out(run, in_bundles=True)


def _fan_out(run: Round, in_bundles: bool) -> None:
    from benchmarks.ours.project import run_tree
    from benchmarks.ours.tasks import fan_out

    run_tree(run, fan_out.s(run.size, in_bundles), run.size + 2)


def ours_canvas(run: Round) -> None:
    """A chord as a Celery team writes it, signalled."""
    from celery import chord

    from benchmarks.ours.project import run_tree
    from benchmarks.ours.tasks import merge, step

    run_tree(run, chord([step.s()] * run.size, merge.s()), run.size + 1)


def celery(run: Round) -> None:
    """Tasks without results and without a join: nothing is kept of them."""
    from benchmarks.plain.project import send_all

    send_all(run)


def chord_redis(run: Round) -> None:
    """Celery's chord; results in Redis, lost with it."""
    from benchmarks.plain.project import redis_backend

    redis_backend()
    _chord(run)


def chord_postgres(run: Round) -> None:
    """Celery's chord; results in PostgreSQL."""
    from benchmarks.plain.project import sql_backend

    sql_backend()
    _chord(run)


def _chord(run: Round) -> None:
    from celery import chord

    from benchmarks.plain.project import join, started_worker, step

    with started_worker() as worker, run.timed(run.size, worker):
        result = chord([step.s()] * run.size)(join.s())
        wait_for_ticks(run.size)
        result.get(timeout=PATIENCE, interval=0.02)


def dbos(run: Round) -> None:
    """DBOS, on two processes."""
    from benchmarks import ticks
    from benchmarks.dbos.project import call, started_client

    with started_client() as client:
        with run.timed(run.size):
            done = call(client, "fan_out", run.size).get_result()
        assert done == run.size == ticks.count()


def absurd(run: Round) -> None:
    """absurd: a parent in a process of its own, the children on two."""
    from benchmarks import ticks
    from benchmarks.absurd.project import started_workers, tasks

    app = tasks("parents")
    with started_workers("bench", "bench", "parents"):
        for children in (20, run.size):
            ticks.clear()
            with run.timed(children):
                task = app.spawn("fan_out", {"children": children})
                result = app.await_task_result(task["task_id"], timeout=PATIENCE)
            assert result.result == children == ticks.count()


if __name__ == "__main__":
    main(
        ours=ours,
        ours_bundles=ours_bundles,
        ours_canvas=ours_canvas,
        celery=celery,
        chord_redis=chord_redis,
        chord_postgres=chord_postgres,
        dbos=dbos,
        absurd=absurd,
    )

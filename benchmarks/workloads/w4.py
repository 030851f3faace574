"""W4: a client submits: how fast, with no worker about."""

from __future__ import annotations

from benchmarks.harness import Round, main


def _numbers(run: Round) -> list[str]:
    return [str(number) for number in range(run.size)]


def ours(run: Round) -> None:
    """`signal()`, a new workflow each."""
    from backbeat_celery import signal
    from backbeat_celery.models import Node
    from benchmarks.ours.project import empty
    from benchmarks.ours.tasks import nothing

    empty()
    signal(nothing.s().set(queue="sink"), subject="first")
    with run.timed(run.size):
        for number in _numbers(run):
            signal(nothing.s().set(queue="sink"), subject=number)
    assert Node.objects.filter(task=nothing.name).count() == run.size + 1


def ours_known(run: Round) -> None:
    """`signal()` to a workflow that exists."""
    from backbeat_celery import signal
    from backbeat_celery.models import Node
    from benchmarks.ours.project import empty
    from benchmarks.ours.tasks import nothing

    empty()
    signal(nothing.s().set(queue="sink"), subject="first", mode="non_blocking")
    with run.timed(run.size):
        for _ in range(run.size):
            signal(nothing.s().set(queue="sink"), subject="first", mode="non_blocking")
    assert Node.objects.filter(task=nothing.name).count() == run.size + 1


def ours_many(run: Round) -> None:
    """`signal_many()` with 100 at a time, a new workflow each."""
    from backbeat_celery import signal, signal_many
    from backbeat_celery.models import Node
    from benchmarks.ours.project import empty
    from benchmarks.ours.tasks import nothing

    empty()
    signal(nothing.s().set(queue="sink"), subject="first")
    numbers = _numbers(run)
    with run.timed(run.size):
        for start in range(0, run.size, 100):
            part = numbers[start : start + 100]
            signature = nothing.s().set(queue="sink")
            signal_many([(signature, {"subject": number}) for number in part])
    assert Node.objects.filter(task=nothing.name).count() == run.size + 1


def celery(run: Round) -> None:
    """`apply_async()`."""
    from benchmarks.plain.project import nothing

    nothing.apply_async(queue="sink")
    with run.timed(run.size):
        for _ in range(run.size):
            nothing.apply_async(queue="sink")


if __name__ == "__main__":
    main(ours=ours, ours_known=ours_known, ours_many=ours_many, celery=celery)

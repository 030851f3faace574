"""The nodes of the workloads."""

from __future__ import annotations

from collections.abc import Sequence

from celery import shared_task

from backbeat_celery import current_node, node_task
from benchmarks.ticks import tick


@node_task
def nothing() -> None:
    """Do nothing but note the time."""
    tick()


@node_task(bundle=50)
def bundled() -> None:
    """Do nothing but note the time; fifty a message."""
    tick()


@node_task
def family(children: int, mode: str, in_bundles: bool = False) -> None:
    """Have that many children that do nothing."""
    child = bundled if in_bundles else nothing
    current_node().spawn_many([child.s()] * children, mode=mode)


@node_task
def join() -> None:
    """Follow a fan-out."""


@node_task
def fan_out(children: int, in_bundles: bool = False) -> None:
    """Have children, and a node that waits for all of them."""
    child = bundled if in_bundles else nothing
    current_node().spawn_many([child.s()] * children, mode="non_blocking")
    current_node().spawn(join.s(), barrier=True)


@shared_task
def step(*_: object) -> None:
    """Do nothing but note the time, as part of a canvas: a task that knows of no nodes."""
    tick()


@shared_task
def merge(results: object) -> None:
    """Follow a header."""


@shared_task
def text(length: int) -> str:
    """Give a text of that length, and note the time."""
    tick()
    return "x" * length


@shared_task
def many(results: object) -> int:
    """Note the time, and read all results of a header."""
    tick()
    assert isinstance(results, Sequence)
    return sum(map(len, results))


@shared_task(input="lazy")
def lazy_many(results: object) -> int:
    """The same, in pages."""
    tick()
    assert isinstance(results, Sequence)
    return sum(map(len, results))


@shared_task
def passed_on(value: int) -> int:
    """Give what it got, and note the time."""
    tick()
    return value

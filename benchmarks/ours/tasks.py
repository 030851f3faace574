"""The nodes of the workloads."""

from __future__ import annotations

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

"""A pytest plugin that has Celery's canvas tests started by `signal()`.

What a test starts outside of tasks becomes a node, and what it gets is a `NodeResult`. Tasks,
workers and assertions are Celery's own, and so is what a task starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import django
import pytest
from celery import Task, signals
from celery._state import get_current_worker_task
from celery.canvas import Signature, _basemap, _chain, _chord, chunks, group

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402

from backbeat_celery import NodeResult, signal  # noqa: E402
from backbeat_celery.models import Node, Workflow  # noqa: E402
from backbeat_celery.runtime import sessions  # noqa: E402

STARTS = (Signature, _chain, group, _chord, _basemap, chunks)


class Switch:
    """Whether a start makes a node: in a test, and not while `signal()` itself is at work."""

    is_on = False


def in_test() -> bool:
    return Switch.is_on and get_current_worker_task() is None


def start(canvas: Any, args: Any, kwargs: Any, options: dict[str, Any]) -> NodeResult:
    """Signal what would have been sent, with the options of the call as Celery merges them."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in ("producer", "add_to_parent", "route_name"):
        given.pop(name, None)
    Switch.is_on = False
    try:
        canvas = canvas.clone(**given)
        if not canvas.immutable:
            canvas.args = (*(args or ()), *canvas.args)
            canvas.kwargs = {**canvas.kwargs, **(kwargs or {})}
        node = signal(canvas)
    finally:
        Switch.is_on = True
    return NodeResult(node.pk)


def hooked(apply_async: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        if not in_test():
            return apply_async(self, args, kwargs, **options)
        return start(self.s() if isinstance(self, Task) else self, args, kwargs, options)

    return method


def frozen(freeze: Callable[..., Any]) -> Callable[..., Any]:
    """Give the result of the node that a frozen signature will be, not of a result backend."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not in_test():
            return freeze(self, *args, **kwargs)
        Switch.is_on = False
        try:
            result = freeze(self, *args, **kwargs)
            return NodeResult(result.id) if type(self) is Signature else result
        finally:
            Switch.is_on = True

    return method


def pytest_configure() -> None:
    for kind in STARTS:
        if "freeze" in vars(kind):
            kind.freeze = frozen(kind.freeze)  # type: ignore[attr-defined]
    for kind in (*STARTS, Task):
        kind.apply_async = hooked(kind.apply_async)  # type: ignore[method-assign]
    call_command("migrate", verbosity=0)
    connections.close_all()
    # As in a worker of its own: Celery's test worker may have to share a test's transaction.
    signals.worker_init.connect(lambda **_: sessions.keep_apart(), weak=False)
    # The pool is forked from this process.
    signals.worker_process_init.connect(lambda **_: connections.close_all(), weak=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    before = Node.objects.count()
    Switch.is_on = True
    try:
        yield
    finally:
        Switch.is_on = False
        item.stash[WRITTEN] = Node.objects.count() - before
    assert item.stash[WRITTEN], "this test wrote no node"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    for workflow in Workflow.objects.filter(unfinished=True):
        workflow.cancel()


WRITTEN = pytest.StashKey[int]()

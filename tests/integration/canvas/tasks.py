"""Tasks as a Celery team writes them: but for one, nothing here knows of nodes."""

from __future__ import annotations

from typing import Any

from celery import chain, chord, group, shared_task
from celery.exceptions import Ignore

from backbeat_celery import NodeResult, signal

CALLS: list[tuple[Any, ...]] = []
"""What callbacks were called with."""


class Declined(Exception):
    """The card was declined."""


@shared_task
def add(x: int, y: int) -> int:
    return x + y


@shared_task
def double(x: int) -> int:
    return 2 * x


@shared_task
def total(numbers: list[int], more: int = 0) -> int:
    return sum(numbers) + more


@shared_task
def echo(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs] if kwargs else list(args)


@shared_task
def identity(value: Any) -> Any:
    return value


@shared_task
def nothing(*args: Any) -> None:
    return None


@shared_task
def boom(*args: Any) -> None:
    raise Declined("no money", 703)


@shared_task
def ignored(*args: Any) -> None:
    raise Ignore


@shared_task
def note(*args: Any, **kwargs: Any) -> None:
    CALLS.append(("note", *args))


@shared_task
def by_id(task_id: str) -> None:
    CALLS.append(("by_id", task_id))


@shared_task
def by_id_with(task_id: str, stored: str) -> None:
    CALLS.append(("by_id", task_id, stored))


@shared_task
def new_style(request: Any, exc: BaseException, traceback: Any) -> None:
    CALLS.append(("new_style", request.id, exc))


@shared_task(bind=True)
def replaced(self: Any, x: int) -> Any:
    return self.replace(add.s(x, 1))


@shared_task(bind=True)
def fan_out(self: Any, count: int) -> Any:
    return self.replace(group(add.s(i, 1) for i in range(count)))


@shared_task(bind=True)
def into_chord(self: Any, count: int) -> Any:
    return self.replace(chord([add.s(i, 1) for i in range(count)], total.s()))


@shared_task(bind=True)
def grow(self: Any, x: int) -> int:
    self.add_to_chord(add.s(x, 100))
    return x


@shared_task(bind=True)
def ids(self: Any, *args: Any) -> list[Any]:
    return [self.request.id, self.request.root_id, self.request.parent_id, self.request.group]


@shared_task
def gives_results() -> Any:
    """Start a canvas, and give the ids of its results."""
    node = signal(chain(add.s(1, 1), add.s(5)), subject="another")
    return NodeResult(node.pk).as_tuple()


@shared_task(bind=True)
def stamps(self: Any, *args: Any) -> Any:
    return self.request.stamps


@shared_task
def first(values: list[Any]) -> Any:
    return values[0]

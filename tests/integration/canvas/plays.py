"""Tasks that fail as their arguments say, and canvases of them as plain data."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from celery import chain, chord, group

from backbeat_celery import node_task

Shape = list[Any]
CALLBACKS = ("link", "link_error")
"""Forms around a canvas that something is linked to."""

CURED: set[str] = set()
"""Labels of tasks that an operator has put right."""


@node_task(
    name="tests.canvas.play",
    bind=True,
    max_retries=2,
    default_retry_delay=10,
    retry_backoff=False,
    retry_jitter=False,
)
def play(self: Any, *args: Any, label: str, failures: int, fate: str, shape: Shape | None) -> Any:
    """Fail so many times, then tell how it was called, or replace itself."""
    if label not in CURED and self.request.retries < failures:
        raise RuntimeError(label)
    if shape is not None:
        self.replace(signature_of(shape))
    return [label, *args]


TASKS: Mapping[str, Any] = dict.fromkeys(["retry", "resolve", "cancel", "shutdown"], play)
"""The tasks of a canvas by their fate, and those of callbacks by their form."""


def signature_of(shape: Shape, tasks: Mapping[str, Any] = TASKS) -> Any:
    """Make the canvas that a shape with labels describes."""
    form, *parts = shape
    if form == "play":
        label, failures, fate, is_immutable, below = parts
        signature = tasks[fate].s(label=label, failures=failures, fate=fate, shape=below)
        return signature.set(immutable=is_immutable)
    if form in CALLBACKS:
        label, within = parts
        signature = signature_of(within, tasks)
        getattr(signature, form)(tasks[form].s(label=label))
        return signature
    if form == "chord":
        header, body = parts
        members = [signature_of(member, tasks) for member in header]
        return chord(members, signature_of(body, tasks))
    made = [signature_of(part, tasks) for part in parts[0]]
    return {"chain": chain, "group": group}[form](*made)


def labelled(shape: Shape, numbers: Iterator[int], prefix: str = "task ") -> Shape:
    """Give each task of a shape its label, those of replacements and callbacks included."""
    form, *parts = shape
    if form == "play":
        failures, fate, is_immutable, below = parts
        below = labelled(below, numbers, prefix) if below else None
        return ["play", f"{prefix}{next(numbers)}", failures, fate, is_immutable, below]
    if form in CALLBACKS:
        return [form, f"{prefix}{next(numbers)}", labelled(parts[0], numbers, prefix)]
    if form == "chord":
        header, body = parts
        members = [labelled(member, numbers, prefix) for member in header]
        return ["chord", members, labelled(body, numbers, prefix)]
    return [form, [labelled(part, numbers, prefix) for part in parts[0]]]


def grow(rng: random.Random, size: int, finish: Callable[[Shape | None], Shape]) -> Shape:
    """Grow a canvas of about that many tasks, without labels.

    `finish` makes a task, given what it replaces itself with, if anything.
    """
    if size <= 1 or rng.random() < 0.15:
        return finish(grow(rng, size - 1, finish) if size > 1 else None)
    parts, rest = [], size
    while rest > 0:
        parts.append(rng.randint(1, rest))
        rest -= parts[-1]
    shapes = [grow(rng, part if part < size else size - 1, finish) for part in parts]
    form = rng.choice(["chain", "group", "chord"])
    return ["chord", shapes[:-1], shapes[-1]] if form == "chord" else [form, shapes]


def tasks_of(shape: Shape) -> Iterator[str]:
    """The labels of the tasks that a canvas has from its beginning."""
    form, *parts = shape
    if form == "play":
        yield parts[0]
    elif form in CALLBACKS:
        yield from tasks_of(parts[1])
    else:
        for part in [*parts[0], *parts[1:]]:
            yield from tasks_of(part)

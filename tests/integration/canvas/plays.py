"""Tasks that fail as their arguments say, and canvases of them as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from celery import chain, chord, group

from backbeat_celery import node_task

Shape = list[Any]

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


def signature_of(shape: Shape) -> Any:
    """Make the canvas that a shape with labels describes."""
    form, *parts = shape
    if form == "play":
        label, failures, fate, is_immutable, below = parts
        signature = play.s(label=label, failures=failures, fate=fate, shape=below)
        return signature.set(immutable=is_immutable)
    if form == "chord":
        header, body = parts
        return chord([signature_of(member) for member in header], signature_of(body))
    return {"chain": chain, "group": group}[form](*map(signature_of, parts[0]))


def labelled(shape: Shape, numbers: Iterator[int]) -> Shape:
    """Give each task of a shape its label, those of replacements included."""
    form, *parts = shape
    if form == "play":
        failures, fate, is_immutable, below = parts
        below = labelled(below, numbers) if below else None
        return ["play", f"task {next(numbers)}", failures, fate, is_immutable, below]
    if form == "chord":
        header, body = parts
        return ["chord", [labelled(member, numbers) for member in header], labelled(body, numbers)]
    return [form, [labelled(part, numbers) for part in parts[0]]]

"""The call site with workflows."""

from __future__ import annotations

from celery import chord

from backbeat_celery import signal
from tests.integration.canvas.migrations.merging.tasks import delete, merge, render, restore


def merge_documents(documents: list[int], title: str, numbers: dict[str, str]) -> None:
    """Merge documents under a title; their numbers are free until it is known to fail."""
    canvas = chord(
        [render.s(document, dpi=300) for document in documents],
        merge.s(title) | delete.si(documents),
    ).on_error(restore.s(numbers))
    try:
        signal(canvas, subject=title)
    except Exception:
        restore("", numbers)
        raise

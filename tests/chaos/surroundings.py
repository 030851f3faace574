"""What surrounds a sender, as tenants and traces do: it adds a header to what is sent there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.signals import before_task_publish

from tests.chaos.notes import AMBIENT


@contextmanager
def surroundings(ambient: str | None) -> Iterator[None]:
    """Add a header to each message that is made meanwhile; with None, nobody adds anything."""

    def add(headers: dict[str, Any], **_: Any) -> None:
        headers[AMBIENT] = ambient

    if ambient is not None:
        before_task_publish.connect(add, weak=False)
    try:
        yield
    finally:
        before_task_publish.disconnect(add)

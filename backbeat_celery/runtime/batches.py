"""Cut a sequence into batches of a size that one statement or message can carry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    """Give the items in their order, at most `size` at a time."""
    ordered = items if isinstance(items, Sequence) else list(items)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]

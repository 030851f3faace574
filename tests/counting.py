"""Count what a piece of work costs: statements, rows that are fetched, lines of Python.

Counts do not depend on the machine, so a test may compare them at two sizes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.test.utils import CaptureQueriesContext

FRAME = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


class Statements(CaptureQueriesContext):
    """The statements of a block, without those that only frame transactions."""

    def __init__(self) -> None:
        super().__init__(connection)

    @property
    def texts(self) -> list[str]:
        texts = [query["sql"] for query in self.captured_queries]
        return [text for text in texts if not text.startswith(FRAME)]

    def __str__(self) -> str:
        return "\n".join(text[:150] for text in self.texts)


class Fetched:
    """How many rows a block has fetched, and how many of them at once."""

    def __init__(self) -> None:
        self.rows = 0
        self.statements: dict[int, int] = {}

    @property
    def most(self) -> int:
        """Rows of the statement that gave most."""
        return max(self.statements.values(), default=0)

    def note(self, cursor: Any, rows: int) -> None:
        self.rows += rows
        self.statements[id(cursor)] = self.statements.get(id(cursor), 0) + rows


@contextmanager
def fetched() -> Iterator[Fetched]:
    """Count the rows that Django's cursors give."""
    count, kept = Fetched(), []

    def counting(name: str) -> Callable[..., Any]:
        def fetch(self: CursorWrapper, *args: Any) -> Any:
            found = getattr(self.cursor, name)(*args)
            kept.append(self)  # an id is unique only while its object lives
            count.note(self, bool(found) if name == "fetchone" else len(found))
            return found

        return fetch

    names = ("fetchone", "fetchmany", "fetchall")
    for name in names:
        setattr(CursorWrapper, name, counting(name))
    try:
        yield count
    finally:
        for name in names:
            delattr(CursorWrapper, name)


def lines_of(work: Callable[[], Any]) -> int:
    """Count the lines of Python that some work runs through."""
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count

"""What the harness itself sees of a run: the handlers' log, and the rows by plain SQL."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from django.db import DatabaseError, InterfaceError, connection, connections

T = TypeVar("T")
PATIENCE = 60


class Line(NamedTuple):
    """One line that a handler wrote."""

    event: str
    node: str
    attempt: int
    pid: int
    at: float
    context: str | None = None
    """What the handler saw of the headers that its node was created with."""
    ambient: str | None = None
    given: Any = None
    """What a handler in a canvas was called with."""


class Log:
    """The handlers' log, read on as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self.last: dict[int, Line] = {}
        """The last line of each process."""

    def follow(self) -> None:
        """Read what is new."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for text in whole.splitlines():
            line = Line(**json.loads(text))
            self.last[line.pid] = line

    def lines(self) -> list[Line]:
        """All lines."""
        if not self.path.exists():
            return []
        return [Line(**json.loads(text)) for text in self.path.read_text().splitlines()]


def insist(work: Callable[[], T]) -> T:
    """Do something with the database again until it is done: it may be down for a while."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return work()
        except (DatabaseError, InterfaceError):
            if time.monotonic() > deadline or connection.in_atomic_block:
                raise
            connections.close_all()
            time.sleep(0.1)


def ask(sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of a query."""

    def once() -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            rows: list[tuple[Any, ...]] = list(cursor.fetchall())
            return rows

    return insist(once)


def running(worker: str | None = None) -> list[tuple[str, int]]:
    """Nodes and attempts that run, by the database; those of one worker if it is named."""
    sql = "SELECT id, attempt FROM backbeat_celery_node WHERE status = 'running'"
    rows = ask(f"{sql} AND worker = %s", worker) if worker else ask(sql)
    return [(plain(node), attempt) for node, attempt in rows]


def queued() -> list[str]:
    """Nodes that wait for a worker."""
    rows = ask("SELECT id FROM backbeat_celery_node WHERE status = 'queued' AND task <> ''")
    return [plain(node) for (node,) in rows]


def counts() -> tuple[int, int]:
    """How many nodes there are, roots not counted, and how many of them are finished."""
    ((total, finished),) = ask(
        "SELECT count(*), count(finished_at) FROM backbeat_celery_node WHERE parent_id IS NOT NULL"
    )
    return total, finished


def newest() -> int:
    """A number that grows with every change of a status."""
    ((number,),) = ask("SELECT max(id) FROM backbeat_celery_transition")
    return number or 0


def plain(node: Any) -> str:
    """An id as the log has it; databases without a type for it give hexadecimal digits."""
    return str(UUID(str(node)))

"""Transactions that are repeated when the database asks for it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError, connections

T = TypeVar("T")
M = TypeVar("M")

PATIENCE = 30.0
"""Seconds after which database trouble is left to the lease and the sweeper."""

_SQLSTATES = frozenset({"40001", "40P01"})
_MYSQL_CODES = frozenset({1020, 1205, 1213})


def is_conflict(exc: BaseException) -> bool:
    """Tell whether `exc` says: this transaction lost against another one, repeat it."""
    cause = exc.__cause__
    if getattr(cause, "sqlstate", None) in _SQLSTATES:
        return True
    arguments = getattr(cause, "args", ()) or getattr(exc, "args", ())
    if arguments and arguments[0] in _MYSQL_CODES:
        return True
    return "database is locked" in str(exc) or "table is locked" in str(exc)


def is_broken(raw: object, using: str) -> bool:
    """Tell whether the connection `raw` was lost: what failed on it is nobody's fault."""
    connection = connections[using]
    return connection.connection is not raw or not connection.is_usable()


def repeat_on(instance: M, work: Callable[[M], T], *, using: str, outage: bool = False) -> T:
    """Repeat a step that changes a model instance; each try begins with it as it was read."""
    as_read = dict(vars(instance))

    def once() -> T:
        vars(instance).update(as_read)
        return work(instance)

    return repeat(once, using=using, outage=outage)


def repeat(work: Callable[[], T], *, using: str, outage: bool = False) -> T:
    """Run `work`, again after a conflict, and with `outage` also after a lost connection.

    `work` is one transaction that can tell by itself what it has done before: the answer
    to a commit may be lost. Inside somebody else's transaction nothing is repeated, since
    only the owner can repeat that.
    """
    connection = connections[using]
    if connection.in_atomic_block:
        return work()
    deadline = time.monotonic() + PATIENCE
    pause = 0.01
    while True:
        try:
            return work()
        except (DatabaseError, InterfaceError) as exc:
            broken = outage and isinstance(exc, (OperationalError, InterfaceError))
            if not (is_conflict(exc) or broken) or time.monotonic() > deadline:
                raise
            connection.close_if_unusable_or_obsolete()
        time.sleep(random.uniform(0, pause))
        pause = min(pause * 2, 2.0)

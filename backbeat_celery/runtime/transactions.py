"""Transactions that are repeated when the database asks for it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    OperationalError,
)

from backbeat_celery.runtime.backoff import exponential
from backbeat_celery.runtime.sessions import connection_to

T = TypeVar("T")
M = TypeVar("M")

PATIENCE = 30.0
"""Seconds after which database trouble is left to the lease and the sweeper."""

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 2.0
"""Seconds between two tries, before jitter: the first one comes at once."""

_SQLSTATES = frozenset({"40001", "40P01"})
# Django's InternalError, for a server that cannot write just now (a failover under way), and for
# a transaction that it ended because nothing came: neither is the work's fault.
_OUTAGES = frozenset({"25006", "25P02", "25P03"})
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


def is_outage(exc: BaseException) -> bool:
    """Tell whether `exc` says: the database cannot do this now, try again later."""
    if isinstance(exc, (OperationalError, InterfaceError)):
        return True
    return getattr(exc.__cause__, "sqlstate", None) in _OUTAGES


def _may_be_the_sessions_fault(exc: BaseException) -> bool:
    return not isinstance(exc, (DataError, IntegrityError))


def is_broken(raw: object, using: str) -> bool:
    """Tell whether the connection `raw` was lost: what failed on it is nobody's fault."""
    connection = connection_to(using)
    return connection.connection is not raw or not connection.is_usable()


def repeat_on(instance: M, work: Callable[[M], T], *, using: str, outage: bool = False) -> T:
    """Repeat a step that changes a model instance; each try begins with it as it was read."""
    as_read = dict(vars(instance))

    def once() -> T:
        vars(instance).update(as_read)
        return work(instance)

    return repeat(once, using=using, outage=outage)


def repeat(work: Callable[[], T], *, using: str, outage: bool = False) -> T:
    """Run `work`, again after a conflict, and with `outage` also after database trouble.

    Then the connection is closed, whatever it answers to `SELECT 1`, and `work` is done again on
    a fresh one: at once, and if it is an outage until our patience ends. `work` is one
    transaction that can tell by itself what it has done before: the answer to a commit may be
    lost. Inside the caller's transaction nothing is repeated, since only the caller can
    repeat that.
    """
    connection = connection_to(using)
    if connection.in_atomic_block:
        return work()
    deadline = time.monotonic() + PATIENCE
    tries, longest_pause = 0, 0.0
    while True:
        try:
            return work()
        except (DatabaseError, InterfaceError) as exc:
            if is_conflict(exc):
                connection.close_if_unusable_or_obsolete()
            elif outage and (is_outage(exc) or (not tries and _may_be_the_sessions_fault(exc))):
                connection.close()
            else:
                raise
            if time.monotonic() > deadline:
                raise
        time.sleep(random.uniform(0, longest_pause))
        longest_pause = exponential(FIRST_PAUSE, tries, LONGEST_PAUSE)
        tries += 1

"""Repeat transactions after a conflict or an outage of the database."""

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

MAX_OUTAGE = 30.0
"""Seconds for which an outage is waited for; later, the lease and the sweeper take over."""

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 2.0
"""Seconds between two tries, before jitter: the first one comes at once."""

_SQLSTATES = frozenset({"40001", "40P01"})
# Django's InternalError for a server that is read-only (during a failover), and for a
# transaction that the server has ended after an idle timeout.
_OUTAGES = frozenset({"25006", "25P02", "25P03"})
_MYSQL_CODES = frozenset({1020, 1205, 1213})


def is_conflict(exc: BaseException) -> bool:
    """Tell whether a transaction has lost against another one and should be repeated."""
    cause = exc.__cause__
    if getattr(cause, "sqlstate", None) in _SQLSTATES:
        return True
    arguments = getattr(cause, "args", ()) or getattr(exc, "args", ())
    if arguments and arguments[0] in _MYSQL_CODES:
        return True
    return "database is locked" in str(exc) or "table is locked" in str(exc)


def is_outage(exc: BaseException) -> bool:
    """Tell whether the database is unavailable, so that a later try may succeed."""
    if isinstance(exc, (OperationalError, InterfaceError)):
        return True
    return getattr(exc.__cause__, "sqlstate", None) in _OUTAGES


def _may_depend_on_session(exc: BaseException) -> bool:
    return not isinstance(exc, (DataError, IntegrityError))


def is_broken(raw: object, using: str) -> bool:
    """Tell whether the connection `raw` was lost, so that the error is not the handler's."""
    connection = connection_to(using)
    return connection.connection is not raw or not connection.is_usable()


def repeat_on(instance: M, work: Callable[[M], T], *, using: str, outage: bool = False) -> T:
    """Repeat a step that changes a model instance, which is reset before each try."""
    as_read = dict(vars(instance))

    def once() -> T:
        vars(instance).update(as_read)
        return work(instance)

    return repeat(once, using=using, outage=outage)


def repeat(work: Callable[[], T], *, using: str, outage: bool = False) -> T:
    """Run `work`; repeat it after a conflict, and with `outage` also after a database error.

    After an error the connection is closed and `work` runs on a new one: once for any error, and
    during an outage until MAX_OUTAGE has passed. `work` must be one transaction that recognizes
    what an earlier try has committed, since the answer to a commit may be lost. Inside an outer
    transaction nothing is repeated.
    """
    connection = connection_to(using)
    if connection.in_atomic_block:
        return work()
    deadline = time.monotonic() + MAX_OUTAGE
    tries, longest_pause = 0, 0.0
    while True:
        try:
            return work()
        except (DatabaseError, InterfaceError) as exc:
            if is_conflict(exc):
                connection.close_if_unusable_or_obsolete()
            elif outage and (is_outage(exc) or (not tries and _may_depend_on_session(exc))):
                connection.close()
            else:
                raise
            if time.monotonic() > deadline:
                raise
        time.sleep(random.uniform(0, longest_pause))
        longest_pause = exponential(FIRST_PAUSE, tries, LONGEST_PAUSE)
        tries += 1

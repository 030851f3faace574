"""The engine's clock: the database's in production, the Simulation's in tests.

Times are compared inside the database by the expressions below, so that differences between the
clocks of machines do not matter. They give the time of the statement, unlike PostgreSQL's
`now()`, which gives the start of the transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import DateTimeField, ExpressionWrapper, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.sql.compiler import SQLCompiler

_simulated: Callable[[], datetime] | None = None


class DatabaseTime(Now):
    """The time of the statement by the database's clock, independent of the server's time zone.

    PostgreSQL stores absolute times. The others store local times in `DATABASES["TIME_ZONE"]`,
    by default UTC, so this gives such a local time there.
    """

    def as_mysql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> tuple[str, Any]:
        ahead = _seconds_ahead(connection)
        template = f"UTC_TIMESTAMP(6) + INTERVAL {ahead} SECOND" if ahead else "UTC_TIMESTAMP(6)"
        return self.as_sql(compiler, connection, template=f"({template})", **context)

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> tuple[str, Any]:
        ahead = _seconds_ahead(connection)
        template = f"STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f', 'NOW', '{ahead} seconds')"
        return self.as_sql(compiler, connection, template=template, **context)


def _seconds_ahead(connection: BaseDatabaseWrapper) -> int:
    """The UTC offset of a database's local times."""
    offset = datetime.now(connection.timezone).utcoffset()
    return 0 if offset is None else round(offset.total_seconds())


class _Moment(Value):
    """A time as a parameter; without the cast MySQL would give it back as text."""

    def as_mysql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        sql, params = self.as_sql(compiler, connection)
        return f"CAST({sql} AS datetime(6))", params


def now() -> Combinable:
    """Give the current time as an expression for a query."""
    if _simulated is not None:
        return _Moment(_simulated(), output_field=DateTimeField())
    return DatabaseTime()


def after(seconds: float) -> Combinable:
    """Give the time that many seconds from now as an expression for a query."""
    if _simulated is not None:
        return _Moment(_simulated() + timedelta(seconds=seconds), output_field=DateTimeField())
    return ExpressionWrapper(
        DatabaseTime() + timedelta(seconds=seconds), output_field=DateTimeField()
    )


def is_simulated() -> bool:
    """Tell whether a Simulation sets the time."""
    return _simulated is not None


def simulated_now() -> datetime:
    """Give the Simulation's time."""
    assert _simulated is not None
    return _simulated()


@contextmanager
def simulated(source: Callable[[], datetime]) -> Iterator[None]:
    """Read the time from `source` instead of the database."""
    global _simulated
    previous, _simulated = _simulated, source
    try:
        yield
    finally:
        _simulated = previous

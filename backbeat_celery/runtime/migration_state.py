"""Find out whether all migrations are applied, and log once if they are not."""

from __future__ import annotations

import logging
import time
from importlib import import_module
from pkgutil import iter_modules

from django.apps import apps
from django.db import DatabaseError, connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from backbeat_celery.exceptions import NotMigrated

logger = logging.getLogger(__name__)

APP = "backbeat_celery"
LOG_INTERVAL = 600.0
"""Seconds until the error is logged again."""

# PostgreSQL's undefined table and column, MySQL's, and what SQLite says.
_SQLSTATES = frozenset({"42P01", "42703"})
_MYSQL_TABLE, _MYSQL_COLUMN = 1146, 1054
_SQLITE = ("no such table", "has no column named")

_logged_at = float("-inf")


def missing_migrations(using: str) -> str:
    """Describe which migrations a database lacks; empty if none, or if it is unavailable."""
    connection = connections[using]
    try:
        found = set(connection.introspection.table_names())
        applied = {
            name for app, name in MigrationRecorder(connection).applied_migrations() if app == APP
        }
    except DatabaseError:
        return ""  # the database is unavailable, which Django reports itself
    wanted = {model._meta.db_table for model in apps.get_app_config(APP).get_models()}
    if not wanted <= found:
        return f"The tables of {APP} are not in the database {using!r}: run manage.py migrate."
    if missing := sorted(set(_names()) - applied):
        which = f"migration {missing[0]}" if len(missing) == 1 else f"{len(missing)} migrations"
        return f"The database {using!r} lacks {which} of {APP}: run manage.py migrate."
    return ""


def _names() -> list[str]:
    """The migrations of this release; none in a project that has disabled them."""
    module, _is_own = MigrationLoader.migrations_module(APP)
    if module is None:
        return []
    return [
        name for _, name, _ in iter_modules(import_module(module).__path__) if name[0] not in "_~"
    ]


def are_tables_missing(exc: BaseException) -> bool:
    """Tell whether an error of our own statements means that a table or a column is missing."""
    text = str(exc)
    for error in (exc, exc.__cause__):
        code = next(iter(getattr(error, "args", ())), None)
        if code == _MYSQL_COLUMN or "no such column" in text:
            return True  # neither MySQL nor SQLite names the table
        if getattr(error, "sqlstate", None) in _SQLSTATES or code == _MYSQL_TABLE:
            return f"{APP}_" in text
    return f"{APP}_" in text and any(part in text for part in _SQLITE)


def raise_if_not_migrated(exc: BaseException, using: str) -> None:
    """Raise NotMigrated if a database error means that a table or a column is missing."""
    if are_tables_missing(exc):
        raise NotMigrated(
            f"The database {using!r} lacks a table or a column of {APP}: run manage.py migrate."
        ) from exc


def log_missing_tables(exc: BaseException) -> bool:
    """Log at most every ten minutes that tables are missing; False if they are not."""
    global _logged_at
    if not are_tables_missing(exc):
        return False
    if time.monotonic() - _logged_at > LOG_INTERVAL:
        _logged_at = time.monotonic()
        logger.error(
            "The database lacks a table or a column of %s. No node is processed until then: "
            "run manage.py migrate. (%s)",
            APP,
            str(exc).splitlines()[0],
        )
    return True

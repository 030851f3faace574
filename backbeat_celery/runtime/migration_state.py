"""Whether the tables are there, and as this release needs them; said once, not again and again."""

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
SILENCE = 600.0
"""Seconds until the log says it again."""

# PostgreSQL's undefined table and column, MySQL's, and what SQLite says.
_SQLSTATES = frozenset({"42P01", "42703"})
_MYSQL_TABLE, _MYSQL_COLUMN = 1146, 1054
_SQLITE = ("no such table", "has no column named")

_said_at = float("-inf")


def trouble(using: str) -> str:
    """Say what a database lacks; empty if nothing, or if it cannot be asked."""
    connection = connections[using]
    try:
        found = set(connection.introspection.table_names())
        applied = {
            name for app, name in MigrationRecorder(connection).applied_migrations() if app == APP
        }
    except DatabaseError:
        return ""  # it is not there, which Django tells
    wanted = {model._meta.db_table for model in apps.get_app_config(APP).get_models()}
    if not wanted <= found:
        return f"The tables of {APP} are not in the database {using!r}: run manage.py migrate."
    if missing := sorted(set(_names()) - applied):
        which = f"migration {missing[0]}" if len(missing) == 1 else f"{len(missing)} migrations"
        return f"The database {using!r} lacks {which} of {APP}: run manage.py migrate."
    return ""


def _names() -> list[str]:
    """The migrations of this release; none in a project that does without."""
    module, _is_own = MigrationLoader.migrations_module(APP)
    if module is None:
        return []
    return [
        name for _, name, _ in iter_modules(import_module(module).__path__) if name[0] not in "_~"
    ]


def are_missing(exc: BaseException) -> bool:
    """Tell whether an error of our own statements says that a table or a column is not there."""
    said = str(exc)
    for error in (exc, exc.__cause__):
        code = next(iter(getattr(error, "args", ())), None)
        if code == _MYSQL_COLUMN or "no such column" in said:
            return True  # neither MySQL nor SQLite tells of which table
        if getattr(error, "sqlstate", None) in _SQLSTATES or code == _MYSQL_TABLE:
            return f"{APP}_" in said
    return f"{APP}_" in said and any(text in said for text in _SQLITE)


def refuse(exc: BaseException, using: str) -> None:
    """Raise NotMigrated in place of a database error that says so."""
    if are_missing(exc):
        raise NotMigrated(
            f"The database {using!r} lacks a table or a column of {APP}: run manage.py migrate."
        ) from exc


def tell(exc: BaseException) -> bool:
    """Log in one sentence that tables are missing, once in a while; False if it is not that."""
    global _said_at
    if not are_missing(exc):
        return False
    if time.monotonic() - _said_at > SILENCE:
        _said_at = time.monotonic()
        logger.error(
            "The database lacks a table or a column of %s, and nothing is done for nodes until "
            "then: run manage.py migrate. (%s)",
            APP,
            str(exc).splitlines()[0],
        )
    return True

"""Django's undocumented names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cache
from typing import Any, TypeVar

from django.db import Error as AnyDatabaseError
from django.db import connections
from django.db.models import Model, QuerySet
from django.db.models.base import ModelState
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

M = TypeVar("M", bound=Model)

replace_connection = connections.__setitem__
"""Without it the engine would work in the database session that handlers use."""


def instance(model: type[M], using: str, fields: Mapping[str, Any], *, adding: bool = False) -> M:
    """Make an instance without its constructor, which takes longer than the rest of a claim.

    Without `ModelState` each claimed node would have to be made by a query set.
    """
    made = model.__new__(model)
    made._state = state = ModelState()
    state.db, state.adding = using, adding
    vars(made).update(fields)
    return made


def column_values(made: Model) -> dict[str, Any]:
    """Without `_state` among an instance's variables, new nodes would share one."""
    return {name: value for name, value in vars(made).items() if name != "_state"}


def keep_related(made: Model, name: str, related: Model) -> None:
    """Without `_state.fields_cache` each claim would read its workflow by one more query."""
    made._state.fields_cache[name] = related


def insert_rows(
    rows: QuerySet[Any], made: Sequence[Model], fields: Sequence[Any], using: str
) -> None:
    """Without `_insert` a fan-out would send all columns, in twice the statements."""
    rows._insert(made, fields=fields, using=using)  # type: ignore[attr-defined]


def delete_rows(rows: QuerySet[Any], using: str) -> int:
    """Without `_raw_delete` a purge would read every row before it deletes it."""
    count: int = rows.order_by()._raw_delete(using)
    return count


def drop_connection(connection: Any) -> None:
    """Without `_close` a transaction that a handler left open would block its record.

    Django refuses to close a connection inside an atomic block that is never left.
    """
    with suppress(AnyDatabaseError):
        connection._close()
    connection.connection = None


def is_observed(connection: Any) -> bool:
    """Without these attributes a query log, a wrapper or a test would miss our statements."""
    return bool(
        connection.in_atomic_block
        or not connection.autocommit
        or connection.queries_logged
        or connection.execute_wrappers
    )


def errors_as_django_has_them(connection: Any) -> AbstractContextManager[None]:
    """Without `wrap_database_errors` our statements would not raise Django's errors."""
    wrapper: AbstractContextManager[None] = connection.wrap_database_errors
    return wrapper


def ensure_usable(connection: Any) -> None:
    """Without `close_if_health_check_failed` CONN_HEALTH_CHECKS would be ignored."""
    connection.close_if_health_check_failed()
    connection.ensure_connection()


def share_between_threads(connection: Any) -> None:
    """Without `inc_thread_sharing` no greenlet could use the session that another one left."""
    connection.inc_thread_sharing()


def rows_in_a_statement(connection: Any, fields: Sequence[Any], made: Sequence[Model]) -> int:
    """Without `bulk_batch_size` a wide fan-out would pass more parameters than SQLite takes."""
    size: int = connection.ops.bulk_batch_size(fields, made)
    return max(1, size)


@cache
def is_psycopg3() -> bool:
    """Without `is_psycopg3` our statements would be tried with psycopg2, which has no libpq."""
    from django.db.backends.postgresql import psycopg_any

    return bool(psycopg_any.is_psycopg3)


def keep_out_of_the_log(response: HttpResponse) -> None:
    """Without `_has_been_logged` Django would log a refused path, and the token in it."""
    response._has_been_logged = True  # type: ignore[attr-defined]


def redirect_for_missing(
    model_admin: Any, request: HttpRequest, object_id: str
) -> HttpResponseRedirect:
    """Without this method a page of an object that is gone would be an error."""
    found: HttpResponseRedirect = model_admin._get_obj_does_not_exist_redirect(
        request, model_admin.opts, object_id
    )
    return found

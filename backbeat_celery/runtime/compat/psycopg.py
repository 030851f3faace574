"""psycopg's undocumented names; to be imported only where psycopg 3 is in use."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import errors
from psycopg.pq import DiagnosticField


def error_of(result: Any) -> psycopg.Error:
    """Without `error_from_result` a conflict that is to be tried again would have no type."""
    if not result.error_field(DiagnosticField.SQLSTATE):
        return psycopg.OperationalError(result.get_error_message())
    return errors.error_from_result(result)


def result_of(cursor: Any) -> Any:
    """Without `pgresult` a statement that is observed would give its rows in other types."""
    return cursor.cursor.pgresult

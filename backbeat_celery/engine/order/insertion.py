"""Insert the rows of new nodes."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connections

from backbeat_celery.engine.statements import children as postgres
from backbeat_celery.models import Node
from backbeat_celery.runtime.batches import batched
from backbeat_celery.runtime.compat.django import insert_rows, rows_in_a_statement
from backbeat_celery.sql.columns import NEW_NODE

INSERTED_FIELDS = [field for field in Node._meta.concrete_fields if field.attname in NEW_NODE]


def insert(children: Sequence[Node]) -> None:
    """Insert new children of one node."""
    if not children:
        return
    using = children[0].alias
    if not postgres.insert(children, using):
        _insert(children, using)
    for child in children:
        child._state.adding = False


def _insert(children: Sequence[Node], using: str) -> None:
    """Insert rows with the columns that a new node has; the rest has defaults in the database.

    `bulk_create` would send every column of the table, half of them empty, and so fit
    half as many rows into a statement.
    """
    size = rows_in_a_statement(connections[using], INSERTED_FIELDS, children)
    for chunk in batched(children, size):
        insert_rows(Node._base_manager.using(using), chunk, INSERTED_FIELDS, using)

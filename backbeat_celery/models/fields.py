"""Model fields and indexes that behave the same on every supported database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.db import models

from backbeat_celery.inputs import payload

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    _TextField = models.TextField[Any, Any]
    _CharField = models.CharField[Any, Any]
    _JSONField = models.JSONField[Any, Any]
else:
    _TextField = models.TextField
    _CharField = models.CharField
    _JSONField = models.JSONField


ENVELOPE = 256 * 1024
"""Bytes beyond MAX_PAYLOAD for what is stored with a value: actor, reason, the text of an error.

Input is checked against the limit itself; a column only must not grow without bound.
"""

HARMLESS = frozenset({"models.W036", "models.W037"})
"""Warnings that MySQL ignores conditions, which those of this module leave out there."""


class PayloadField(_TextField):
    """A value stored as the JSON text that Celery would send, and decoded when it is read."""

    if TYPE_CHECKING:
        _pyi_private_set_type: Any
        _pyi_private_get_type: Any

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Any:
        return None if value is None else payload.decode(value)

    def get_prep_value(self, value: Any) -> str | None:
        return None if value is None else payload.encode(value, self.name, ENVELOPE)


class _Encoder(json.JSONEncoder):
    def encode(self, o: Any) -> str:
        return payload.json_text(o)


class _Decoder(json.JSONDecoder):
    def decode(self, s: str, *_: Any) -> Any:
        return payload.json_value(s)


class MetadataField(_JSONField):
    """JSON that the database can search, with values that are read as they were written."""

    if TYPE_CHECKING:
        _pyi_private_set_type: Any
        _pyi_private_get_type: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "encoder": _Encoder, "decoder": _Decoder})

    def deconstruct(self) -> Any:
        """The column is an ordinary JSON column."""
        name, _, args, kwargs = super().deconstruct()
        del kwargs["encoder"], kwargs["decoder"]
        return name, "django.db.models.JSONField", args, kwargs


class ExactCharField(_CharField):
    """Text that compares byte for byte, also where the database would fold case by default."""

    if TYPE_CHECKING:
        _pyi_private_set_type: Any
        _pyi_private_get_type: Any

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        parameters = super().db_parameters(connection)
        if connection.vendor == "mysql":
            is_mariadb = connection.mysql_is_mariadb  # type: ignore[attr-defined]
            parameters["collation"] = "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin"
        return parameters


NOTHING = "SELECT 1"
"""A statement that changes nothing, where Django expects one."""


class PostgresPartialIndex(models.Index):
    """An index that leaves out rows on PostgreSQL and covers all of them elsewhere.

    MySQL has no partial indexes, and SQLite's planner uses one only if it can prove the
    condition from the query without knowing its parameters.
    """

    def create_sql(self, model: Any, schema_editor: Any, using: str = "", **kwargs: Any) -> Any:
        if schema_editor.connection.vendor == "postgresql":
            return super().create_sql(model, schema_editor, using, **kwargs)
        full = models.Index(fields=self.fields, name=self.name)
        return full.create_sql(model, schema_editor, using, **kwargs)


class PostgresOnlyIndex(models.Index):
    """A partial index on PostgreSQL; elsewhere another index, which covers all rows, does."""

    def create_sql(self, model: Any, schema_editor: Any, using: str = "", **kwargs: Any) -> Any:
        if schema_editor.connection.vendor == "postgresql":
            return super().create_sql(model, schema_editor, using, **kwargs)
        return NOTHING

    def remove_sql(self, model: Any, schema_editor: Any, **kwargs: Any) -> Any:
        if schema_editor.connection.vendor == "postgresql":
            return super().remove_sql(model, schema_editor, **kwargs)
        return NOTHING


class PostgresPartialUnique(models.UniqueConstraint):
    """A unique constraint whose index leaves out rows on PostgreSQL; `condition` says which stay.

    It enforces the same everywhere as long as what is left out has a NULL among its fields.
    """

    def create_sql(self, model: Any, schema_editor: Any) -> Any:
        return self._for(schema_editor).create_sql(model, schema_editor)

    def remove_sql(self, model: Any, schema_editor: Any) -> Any:
        return self._for(schema_editor).remove_sql(model, schema_editor)

    def constraint_sql(self, model: Any, schema_editor: Any) -> Any:
        return self._for(schema_editor).constraint_sql(model, schema_editor)

    def _for(self, schema_editor: Any) -> models.UniqueConstraint:
        is_partial = schema_editor.connection.vendor == "postgresql"
        condition = self.condition if is_partial else None
        return models.UniqueConstraint(fields=self.fields, name=self.name, condition=condition)


class RecencyIndex(models.Index):
    """An index on a time that grows with the table, read for its end alone.

    On PostgreSQL it is a BRIN index, which costs next to nothing to keep.
    """

    def create_sql(self, model: Any, schema_editor: Any, using: str = "", **kwargs: Any) -> Any:
        if schema_editor.connection.vendor == "postgresql":
            using = " USING brin"
        return super().create_sql(model, schema_editor, using, **kwargs)

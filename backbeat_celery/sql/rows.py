"""Make model instances of what a statement gives, without what a query set does besides.

A column that the statement did not read is deferred: it is read on first access.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from django.db import models

from backbeat_celery.inputs import payload
from backbeat_celery.models import Node
from backbeat_celery.models.fields import MetadataField, PayloadField
from backbeat_celery.runtime.compat.django import column_values, instance

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(column: str) -> str:
    """SQL for a time, so that no session's time zone or date style is in it."""
    return f"(extract(epoch FROM {column}) * 1000000)::bigint"


def moment(text: str) -> datetime:
    """Read what `microseconds` gives."""
    return EPOCH + timedelta(microseconds=int(text))


def text(moment: datetime | None) -> str | None:
    """A time as a parameter."""
    return None if moment is None else moment.isoformat()


def _bool(text: str) -> bool:
    return text == "t"


def _payload(text: str) -> Any:
    if text == "[]":
        return []
    return {} if text == "{}" else payload.decode(text)


def _json(text: str) -> Any:
    return {} if text == "{}" else json.loads(text)


def _metadata(text: str) -> Any:
    return {} if text == "{}" else payload.json_value(text)


_KINDS: Mapping[type, Callable[[str], Any]] = {
    PayloadField: _payload,
    MetadataField: _metadata,
    models.JSONField: _json,
    models.UUIDField: UUID,
    models.ForeignKey: UUID,
    models.BooleanField: _bool,
    models.IntegerField: int,
    models.DateTimeField: moment,
    models.TextField: str,
    models.CharField: str,
}


def _reader(field: models.Field[Any, Any]) -> Callable[[str], Any]:
    return next(reader for kind, reader in _KINDS.items() if isinstance(field, kind))


READERS: Mapping[str, Callable[[str], Any]] = {
    field.attname: _reader(field) for field in Node._meta.concrete_fields
}
"""How to read a node's columns."""


def selected(columns: Sequence[str], table: str) -> str:
    """SQL for these columns of a node, to be read by `values`."""
    names = ((name, f"{table}.{name}") for name in columns)
    return ", ".join(
        microseconds(full) if READERS[name] is moment else full for name, full in names
    )


def values(columns: Sequence[str], row: Sequence[str | None]) -> dict[str, Any]:
    """The values of these columns, the first of a row."""
    return {
        name: None if text is None else READERS[name](text)
        for name, text in zip(columns, row, strict=False)
    }


def new_node(using: str, *, adding: bool = True, **fields: Any) -> Node:
    """A new node with these columns, as its constructor would make it.

    The constructor goes through all columns and their defaults, which takes longer than
    everything else that is done for one of a thousand children.
    """
    made = instance(Node, using, _blank(), adding=adding)
    vars(made).update(fields)
    return made


@cache
def _blank() -> Mapping[str, Any]:
    """All columns of a new node; those that can be changed in place, everybody gives."""
    return column_values(Node())

"""The columns of a new node: every statement that inserts one is made of this table.

What a node has from its spec is a field of `Node` and a field of `NodeSpec` with the same name.
Give both the field, and the statements, the rows and the claim follow. What a node has from its
place among its siblings is listed in `PLACED`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from django.db import models

from backbeat_celery.inputs import payload
from backbeat_celery.inputs.node_spec import NodeSpec
from backbeat_celery.models import Node
from backbeat_celery.models.fields import ENVELOPE, MetadataField, PayloadField

PLACED = (
    *("id", "workflow_id", "parent_id", "awaited_by", "seq", "stage", "status", "spawned_by"),
    *("fires_at", "expires_at", "publish_at", "created_at", "next_seq", "next_stage"),
)
"""Columns that a place among siblings and the time decide, not the spec alone."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is a spec's field as it is."""

    name: str
    type: str
    """The type in PostgreSQL."""
    to_json: Callable[[Any], Any] | None
    """Make a value of JSON of it; None: it is one."""
    to_text: Callable[[Any], str | None]
    """Make the text of a parameter of it."""


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _column(field: models.Field[Any, Any]) -> Column:
    if isinstance(field, PayloadField):

        def encode(value: Any) -> str:
            return payload.encode(value, field.name, ENVELOPE)

        return Column(field.attname, "text", encode, encode)
    if isinstance(field, MetadataField):
        return Column(field.attname, "jsonb", None, payload.json_text)
    if isinstance(field, models.JSONField):
        return Column(field.attname, "jsonb", None, json.dumps)
    kinds = {
        models.BooleanField: "boolean",
        models.IntegerField: "int",
        models.SmallIntegerField: "smallint",
    }
    return Column(field.attname, kinds.get(type(field), "varchar"), None, _text)


_SPEC_FIELDS = {field.name for field in fields(NodeSpec)} - set(PLACED)
FROM_SPEC = tuple(_column(f) for f in Node._meta.concrete_fields if f.name in _SPEC_FIELDS)
NAMES = tuple(column.name for column in FROM_SPEC)
NEW_NODE = (*PLACED, *NAMES)
"""All columns of a new node; the others have defaults in the database."""

_values = attrgetter(*NAMES)
_TO_TEXT = tuple(column.to_text for column in FROM_SPEC)
_CHANGED = tuple((column.name, column.to_json) for column in FROM_SPEC if column.to_json)


def of(spec: NodeSpec | Node) -> dict[str, Any]:
    """The values of the columns that come from a spec, by name."""
    return dict(zip(NAMES, _values(spec), strict=True))


def as_json(spec: NodeSpec | Node) -> dict[str, Any]:
    """The same as values of JSON, for `json_to_recordset`."""
    row = of(spec)
    for name, encode in _CHANGED:
        row[name] = encode(row[name])
    return row


def as_texts(spec: NodeSpec | Node) -> list[str | None]:
    """The same as parameters, in the order of `NAMES`."""
    return [to_text(value) for to_text, value in zip(_TO_TEXT, _values(spec), strict=True)]


def listed(names: Iterable[str] = NAMES, prefix: str = "") -> str:
    """SQL: names of columns, each with a prefix."""
    return ", ".join(f"{prefix}{name}" for name in names)


def typed() -> str:
    """SQL: the columns with their types, for `json_to_recordset`."""
    return ", ".join(f"{column.name} {column.type}" for column in FROM_SPEC)


def parameters(first: int) -> Mapping[str, str]:
    """SQL: parameters for these columns, numbered from `first`."""
    pairs = enumerate(FROM_SPEC, start=first)
    return {column.name: f"${number}::{column.type}" for number, column in pairs}


def without(names: Collection[str]) -> tuple[str, ...]:
    """The columns that come from a spec, but for some."""
    return tuple(name for name in NAMES if name not in names)

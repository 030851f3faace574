"""One table of a new node's columns: what a field of the model and of a spec leads to."""

from __future__ import annotations

from dataclasses import fields

import pytest

from backbeat_celery.inputs.node_spec import NodeSpec
from backbeat_celery.models import Node
from backbeat_celery.sql import columns
from backbeat_celery.states import Mode


def test_what_a_model_and_a_spec_share_is_in_every_statement():
    shared = {f.name for f in fields(NodeSpec)} & {f.name for f in Node._meta.concrete_fields}
    assert set(columns.NAMES) == shared - {"id", "fires_at", "expires_at"}
    assert set(columns.NAMES) < set(columns.NEW_NODE)


@pytest.mark.parametrize("field", Node._meta.concrete_fields, ids=lambda field: field.name)
def test_what_no_statement_writes_is_null_or_has_a_default_in_the_database(field):
    assert field.attname in columns.NEW_NODE or field.null or field.has_db_default()


def test_values_are_given_as_they_are_as_json_and_as_texts():
    spec = NodeSpec("t", "n", Mode.BLOCKING, args=[1], metadata={"a": 1}, barrier=True)
    by_name = dict(zip(columns.NAMES, columns.as_texts(spec), strict=True))
    assert (columns.of(spec)["args"], columns.as_json(spec)["args"], by_name["args"]) == (
        [1],
        "[1]",
        "[1]",
    )
    assert (columns.as_json(spec)["metadata"], by_name["metadata"]) == ({"a": 1}, '{"a": 1}')
    assert (columns.as_json(spec)["barrier"], by_name["barrier"]) == (True, "True")
    assert (columns.as_json(spec)["key"], by_name["key"]) == (None, None)

"""The search boxes: an id, a subject or its beginning, `key=value` of metadata."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import F, Q, QuerySet
from django.db.models.fields.json import KeyTransform

from backbeat_celery.admin.visibility import Visibility
from backbeat_celery.inputs.redaction import redact
from backbeat_celery.models import Node, Workflow, node_alias


def as_uuid(text: str) -> UUID | None:
    """Parse an id, or give None."""
    try:
        return UUID(text)
    except ValueError:
        return None


def search_workflows(rows: QuerySet[Any], term: str, visibility: Visibility) -> QuerySet[Any]:
    """Find workflows by id, by the id or a Celery id of a node, by metadata, name or subject."""
    term = term.strip()
    if not term:
        return rows
    if (pk := as_uuid(term)) is not None:
        # A lookup of its own: one condition with OR would read every row.
        nodes = visibility.nodes(_named(pk))
        return rows.filter(pk__in=[pk, *nodes.values_list("workflow", flat=True)])
    key, sign, value = term.partition("=")
    if sign and key:
        return _with_metadata(rows, key.strip(), value.strip(), visibility)
    return rows.filter(Q(subject__startswith=term) | Q(name=term))


def _with_metadata(
    rows: QuerySet[Any], key: str, value: str, visibility: Visibility
) -> QuerySet[Any]:
    """Find workflows by their metadata and by that of their signals that the user may see."""
    if any(redact({key: wanted}) != {key: wanted} for wanted in _values(value)):
        return rows.none()  # a hidden value must not be found by guessing
    # These conditions match the partial indexes on metadata.
    workflows = Workflow.objects.using(node_alias()).exclude(metadata={})
    found = with_metadata(workflows, key, value).values_list("pk")
    if visibility.may_view_nodes:
        nodes = Node.objects.using(node_alias()).exclude(metadata={})
        signals = visibility.nodes(nodes.filter(parent_id=F("workflow_id")))
        found = found.union(with_metadata(signals, key, value).values_list("workflow"))
    return rows.filter(pk__in=found)


def search_nodes(rows: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Find nodes by id or Celery id, by the workflow's id, or by the beginning of its subject."""
    term = term.strip()
    if not term:
        return rows
    if (pk := as_uuid(term)) is not None:
        nodes = _named(pk)
        is_workflow = nodes.filter(parent=None).exists()
        return rows.filter(workflow=pk) if is_workflow else rows.filter(pk__in=nodes.values("pk"))
    subjects = Workflow.objects.using(node_alias()).filter(subject__startswith=term)
    return rows.filter(workflow__in=subjects.values("pk"))


def _named(pk: UUID) -> QuerySet[Any]:
    """Find nodes by id or Celery id; a workflow's id is that of its root."""
    nodes = Node.objects.using(node_alias())
    node = nodes.filter(pk=pk)
    return node if node.exists() else nodes.for_task_id(str(pk))


def _values(text: str) -> list[Any]:
    """Give the values that a text may mean: itself, and its value as JSON."""
    values: list[Any] = [text]
    with suppress(ValueError):
        values.append(json.loads(text))
    return values


def with_metadata(rows: QuerySet[Any], key: str, value: str) -> QuerySet[Any]:
    """Filter rows whose metadata has this value under this key, as text or as JSON."""
    values = _values(value)
    if connections[rows.db].features.supports_json_field_contains:
        condition = Q()
        for candidate in values:
            condition |= Q(metadata__contains={key: candidate})
        return rows.filter(condition)
    searched: QuerySet[Any] = rows.alias(searched=KeyTransform(key, "metadata"))
    return searched.filter(_any_of(values))


def _any_of(values: list[Any]) -> Q:
    condition = Q()
    for value in values:
        condition |= Q(searched=value)
    return condition

"""What the search boxes understand: an id, a subject or its beginning, `key=value` of metadata."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import F, Q, QuerySet
from django.db.models.fields.json import KeyTransform

from backbeat_celery.models import Node, Workflow, node_alias


def as_uuid(text: str) -> UUID | None:
    """Read an id, or give None."""
    try:
        return UUID(text)
    except ValueError:
        return None


def search_workflows(rows: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Workflows by id, by the id or a Celery id of a node, by metadata, name or subject."""
    term = term.strip()
    if not term:
        return rows
    if (pk := as_uuid(term)) is not None:
        # Looked up first: as one condition the two would be answered by reading every row.
        return rows.filter(pk__in=[pk, *_named(pk).values_list("workflow", flat=True)])
    key, sign, value = term.partition("=")
    if sign and key:
        # Both conditions are those of the indexes on metadata.
        workflows = Workflow.objects.using(node_alias()).exclude(metadata={})
        nodes = Node.objects.using(node_alias()).exclude(metadata={})
        signals = nodes.filter(parent_id=F("workflow_id"))
        mine = with_metadata(workflows, key.strip(), value.strip())
        theirs = with_metadata(signals, key.strip(), value.strip())
        found = mine.values_list("pk").union(theirs.values_list("workflow"))
        return rows.filter(pk__in=found)
    return rows.filter(Q(subject__startswith=term) | Q(name=term))


def search_nodes(rows: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Nodes by id or Celery id, by the workflow's id, or by the beginning of its subject."""
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
    """Nodes by id or by Celery's; a workflow's own id is that of its root."""
    nodes = Node.objects.using(node_alias())
    node = nodes.filter(pk=pk)
    return node if node.exists() else nodes.for_task_id(str(pk))


def with_metadata(rows: QuerySet[Any], key: str, value: str) -> QuerySet[Any]:
    """Rows whose metadata has this value under this key, as text or as JSON."""
    values = [value]
    with suppress(ValueError):
        values.append(json.loads(value))
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

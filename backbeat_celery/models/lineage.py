"""Read the ancestors of nodes: one statement for some hundred levels. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal
from uuid import UUID

from django.db import connections

from backbeat_celery.models import Node
from backbeat_celery.runtime.batches import batched

LEVELS = 500
"""Levels read by one statement: MariaDB and MySQL end a recursion after a thousand."""

NODES = 500
"""Nodes that one statement begins with."""

COLUMNS = (
    *("id", "workflow_id", "parent_id", "awaited_by", "seq", "barrier", "mode", "status"),
    *("task", "name"),
)

CLIMB = """
WITH RECURSIVE lineage AS (
    SELECT {columns}, 1 AS height FROM {table} AS node WHERE node.id IN ({ids})
    UNION ALL
    SELECT {columns}, lineage.height + 1 FROM {table} AS node
    JOIN lineage ON node.id = lineage.{edge} WHERE lineage.height < {levels}
)
SELECT DISTINCT {names} FROM lineage
"""


def lineage(
    node_ids: Iterable[UUID],
    using: str,
    edge: Literal["parent_id", "awaited_by"] = "parent_id",
    levels: int | None = None,
) -> dict[UUID, Node]:
    """Give these nodes and their ancestors, or as many `levels`, with few columns of each.

    By the edge `awaited_by` only as far up as each waits for the one below.
    """
    known: dict[UUID, Node] = {}
    ahead = set(node_ids)
    while ahead:
        fresh = [
            row
            for some in batched(sorted(ahead), NODES)
            for row in _climb(some, using, edge, levels)
        ]
        known.update((row.pk, row) for row in fresh)
        above = {getattr(row, edge) for row in fresh} - {None}
        ahead = set() if levels else above - known.keys()
    return known


def _climb(node_ids: Sequence[UUID], using: str, edge: str, levels: int | None) -> Iterable[Node]:
    connection = connections[using]
    sql = CLIMB.format(
        table=connection.ops.quote_name(Node._meta.db_table),
        columns=", ".join(f"node.{name}" for name in COLUMNS),
        names=", ".join(COLUMNS),
        ids=", ".join(["%s"] * len(node_ids)),
        edge=edge,
        levels=min(levels or LEVELS, LEVELS),
    )
    key = Node._meta.pk
    params = [key.get_db_prep_value(pk, connection) for pk in node_ids]
    return Node.objects.using(using).raw(sql, params)

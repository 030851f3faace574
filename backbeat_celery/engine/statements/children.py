"""Insert the children of a node: a thousand of them cost a query set most of a fan-out's time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from backbeat_celery.inputs import payload
from backbeat_celery.models import Node
from backbeat_celery.sql import columns, rows, session
from backbeat_celery.sql.statement import Statement

LARGEST = 16 * 1024 * 1024
"""Characters that describe them: a connection keeps the memory of its largest statement."""

# What children of one node have in common are parameters; the rest is given for each. The
# parents of nodes further down a canvas are given, too.
_insert = Statement(
    "insert_children",
    f"""
INSERT INTO {{nodes}} (
    id, workflow_id, parent_id, awaited_by, seq, stage, status, spawned_by, fires_at, expires_at,
    publish_at, created_at, next_seq, next_stage, {columns.listed()}
)
SELECT id, $2::uuid, coalesce(parent, $3::uuid),
    CASE WHEN counts THEN coalesce(parent, $3::uuid) END, seq, stage, status, spawned_by,
    fires_at, expires_at, publish_at, created_at, coalesce(next_seq, 0), coalesce(next_stage, 0),
    {columns.listed()}
FROM json_to_recordset($1::json) AS child (
    id uuid, parent uuid, counts boolean, seq int, stage int, status varchar, spawned_by int,
    fires_at timestamptz, expires_at timestamptz, publish_at timestamptz,
    created_at timestamptz, next_seq int, next_stage int, {columns.typed()}
)
""",
)


def insert(children: Sequence[Node], using: str) -> bool:
    """Insert new children of one node, and what is below them; False: find another way."""
    if not session.is_available(using):
        return False
    parent = [str(children[0].workflow_id), str(children[0].parent_id)]
    for described in _parts(children, children[0].parent_id):
        session.execute(using, _insert, described, *parent)
    return True


def _parts(children: Sequence[Node], parent_id: UUID | None) -> Iterator[str]:
    """Describe the children, as many at once as one statement takes."""
    texts: list[str] = []
    size = 0
    for child in children:
        described = _as_json(child)
        if child.parent_id != parent_id:
            described["parent"] = str(child.parent_id)
        text = payload.json_text(described)
        size += len(text)
        if texts and size > LARGEST:
            yield f"[{','.join(texts)}]"
            texts, size = [], len(text)
        texts.append(text)
    yield f"[{','.join(texts)}]"


def _as_json(child: Node) -> dict[str, Any]:
    described = columns.as_json(child)
    if child.next_seq:
        described |= {"next_seq": child.next_seq, "next_stage": child.next_stage}
    if child.expires_at is not None:
        described["expires_at"] = rows.text(child.expires_at)
    return {
        "id": str(child.pk),
        "counts": child.awaited_by is not None,
        "seq": child.seq,
        "stage": child.stage,
        "status": child.status,
        "spawned_by": child.spawned_by,
        "fires_at": rows.text(child.fires_at),
        "publish_at": rows.text(child.publish_at),
        "created_at": rows.text(child.created_at),
        **described,
    }

"""Insert the children of a node: a thousand of them cost a query set most of a fan-out's time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backbeat_celery.inputs import payload
from backbeat_celery.models import Node
from backbeat_celery.sql import columns, rows, session
from backbeat_celery.sql.statement import Statement

LARGEST = 16 * 1024 * 1024
"""Characters that describe them: a connection keeps the memory of its largest statement."""

# What children of one node have in common are parameters; the rest is given for each.
_insert = Statement(
    "insert_children",
    f"""
INSERT INTO {{nodes}} (
    id, workflow_id, parent_id, awaited_by, seq, stage, status, spawned_by, fires_at, publish_at,
    created_at, {columns.listed()}
)
SELECT id, $2::uuid, $3::uuid, CASE WHEN counts THEN $3::uuid END, seq, stage, status, spawned_by,
    fires_at, publish_at, created_at, {columns.listed()}
FROM json_to_recordset($1::json) AS child (
    id uuid, counts boolean, seq int, stage int, status varchar, spawned_by int,
    fires_at timestamptz, publish_at timestamptz, created_at timestamptz, {columns.typed()}
)
ORDER BY seq
""",
)


def insert(children: Sequence[Node], using: str) -> bool:
    """Insert new children of one node; False if another way has to be found."""
    if not session.is_available(using):
        return False
    parent = [str(children[0].workflow_id), str(children[0].parent_id)]
    for described in _parts(children):
        session.execute(using, _insert, described, *parent)
    return True


def _parts(children: Sequence[Node]) -> Iterator[str]:
    """Describe the children, as many at once as one statement takes."""
    texts: list[str] = []
    size = 0
    for child in children:
        text = payload.json_text(_as_json(child))
        size += len(text)
        if texts and size > LARGEST:
            yield f"[{','.join(texts)}]"
            texts, size = [], len(text)
        texts.append(text)
    yield f"[{','.join(texts)}]"


def _as_json(child: Node) -> Mapping[str, Any]:
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
        **columns.as_json(child),
    }

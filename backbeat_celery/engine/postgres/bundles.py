"""Record the leaves of a bundle in one statement."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections

from backbeat_celery.engine.outcomes import Ending, Succeeded
from backbeat_celery.engine.postgres import look, session
from backbeat_celery.engine.postgres.record import (
    COMPLETED,
    HISTORY,
    STEPS,
    encoded,
    is_plain,
    remember,
)
from backbeat_celery.engine.postgres.statement import Statement
from backbeat_celery.engine.wake import Wake

if TYPE_CHECKING:
    from backbeat_celery.engine.claim import Claim

MOST_LOOKS = 10
"""Parents that are looked at in the round trip of the record; a bundle mostly has one."""

# The statement of record.py, for several nodes. Their ids are an array besides, since for a join
# alone a planner that knows nothing of the table may read all nodes.
_leaves = Statement(
    "leaves",
    f"""
WITH done AS MATERIALIZED (
    SELECT * FROM json_to_recordset($1::json)
        AS done (id uuid, attempt int, claim_id uuid, before text, result text, progress text)
), ended AS (
    UPDATE {{nodes}} AS node
    SET {COMPLETED}, result = done.result, progress = coalesce(done.progress, node.progress)
    FROM done
    WHERE node.id = done.id AND node.id = ANY(ARRAY(SELECT id FROM done))
      AND node.status = {{running}} AND node.attempt = done.attempt
      AND node.claim_id = done.claim_id AND node.next_seq = 0
    RETURNING node.id, node.attempt, node.worker, node.started_at, done.claim_id, done.before
), {HISTORY}
SELECT id FROM ended
""",
    steps=STEPS,
    reaches=["finish_written", "record_written"],
)


def leaves(ended: Sequence[tuple[Claim, Ending]]) -> tuple[Wake, set[UUID]]:
    """Complete those that have no children and hold nothing back; tell which they were."""
    using = ended[0][0].using
    plain = [
        (claim, ending.result)
        for claim, ending in ended
        if isinstance(ending, Succeeded) and is_plain(claim) and not claim.node.is_blocking
    ]
    wake = Wake()
    if not plain:
        return wake, set()
    parents = dict.fromkeys(c.node.parent_id for c, _ in plain if c.node.counts)
    is_alone = session.is_unobserved(connections[using])
    asked = [pk for pk in parents if pk][:MOST_LOOKS] if is_alone else []
    call = _leaves.call(json.dumps([_described(claim, result) for claim, result in plain]))
    looks = [[look.settled(pk) for pk in asked]] if asked else []
    found, *seen = session.execute_all(using, [call], *looks)
    written = {UUID(row[0]) for row in found}
    for claim, result in plain:
        if claim.node.pk in written:
            remember(claim, result)
            wake.ended(claim.node)
            wake.news.completed.append(claim.node.pk)
    settled = {pk for pk, rows in zip(asked, seen, strict=True) if look.says_settled(rows)}
    wake.look_at = [pk for pk in dict.fromkeys(wake.look_at) if pk not in settled]
    return wake, written


def _described(claim: Claim, result: Any) -> dict[str, Any]:
    return {
        "id": str(claim.node.pk),
        "attempt": claim.node.attempt,
        "claim_id": str(claim.claim_id),
        "before": claim.claimed_from,
        "result": encoded(result),
        "progress": encoded(claim.progress),
    }

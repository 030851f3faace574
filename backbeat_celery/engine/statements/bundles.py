"""Record the leaves of a bundle in one statement."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections

from backbeat_celery.engine import publish_times
from backbeat_celery.engine.after_commit import AfterCommit, publications_due
from backbeat_celery.engine.outcomes import AttemptResult, Succeeded
from backbeat_celery.engine.statements import completion
from backbeat_celery.engine.statements.record import (
    COMPLETED,
    HISTORY,
    OPEN_STEPS,
    OPENED,
    STEPS,
    copy_to_instance,
    encoded,
    is_plain,
    is_signal,
    turn,
)
from backbeat_celery.models import Node
from backbeat_celery.runtime.compat.django import instance
from backbeat_celery.sql import rows, session
from backbeat_celery.sql.statement import Call, Row, Statement, array
from backbeat_celery.states import Status

if TYPE_CHECKING:
    from backbeat_celery.engine.claim import Claim

# Parents that another transaction has locked are left out: two that wait for several of them
# might deadlock. Their nodes are recorded one by one.
_lock_lines = Statement(
    "lock_lines",
    """
SELECT set_config('backbeat.lines', coalesce((
    SELECT array_agg(id)::text FROM (
        SELECT id FROM {nodes} WHERE id = ANY($1::uuid[]) FOR NO KEY UPDATE SKIP LOCKED
    ) AS locked
), ''), TRUE)
""",
    reaches=["parent_locked"],
)

# The statements of record.py, for several nodes; `line` is the parent of a blocking one. Their
# ids are an array besides, since for a join alone a planner that knows nothing of the table may
# read all nodes.
_leaves = Statement(
    "leaves",
    f"""
WITH done AS MATERIALIZED (
    SELECT * FROM json_to_recordset($1::json) AS done (
        id uuid, attempt int, claim_id uuid, task_id text, before text, result text, progress text,
        line uuid, seq int
    )
), locked AS MATERIALIZED (
    SELECT unnest(nullif(current_setting('backbeat.lines', TRUE), '')::uuid[]) AS id
), turn AS MATERIALIZED (
    SELECT done.line, behind.id, behind.is_special
    FROM done JOIN locked ON locked.id = done.line CROSS JOIN LATERAL (
        {turn("done.line", "done.seq")}
    ) AS behind
), ended AS (
    UPDATE {{nodes}} AS node
    SET {COMPLETED}, result = done.result, progress = coalesce(done.progress, node.progress)
    FROM done
    WHERE node.id = done.id AND node.id = ANY(ARRAY(SELECT id FROM done))
      AND node.status = {{running}} AND node.attempt = done.attempt
      AND node.claim_id = done.claim_id AND node.next_seq = 0
      AND (done.line IS NULL OR done.line IN (SELECT id FROM locked))
      AND NOT EXISTS (SELECT FROM turn WHERE turn.line = done.line AND turn.is_special)
    RETURNING node.id, node.attempt, node.worker, node.started_at, done.claim_id, done.task_id,
        done.before, done.line
), {HISTORY}, opened AS (
    UPDATE {{nodes}} AS node
    SET status = {{queued}}, publish_at = {publish_times.publish_at_sql("node", "$2", "$3")}
    FROM turn JOIN ended ON ended.line = turn.line
    WHERE node.id = turn.id AND node.id = ANY(ARRAY(SELECT id FROM turn))
    RETURNING turn.line, node.seq, {rows.selected(OPENED, "node")}
), {OPEN_STEPS}
SELECT ended.id, {rows.microseconds("{now}")}, opened.*
FROM ended LEFT JOIN opened ON opened.line = ended.line
ORDER BY opened.line, opened.seq
""",
    steps=[*STEPS, (Status.READY, Status.QUEUED)],
    reaches=["finish_written", "record_written"],
)


def record_leaves(ended: Sequence[tuple[Claim, AttemptResult]]) -> tuple[AfterCommit, set[UUID]]:
    """Complete those that have no children, and queue what stood behind them; tell which.

    Left are those behind which a flag or a barrier stands, or whose parent another transaction
    has locked.
    """
    using = ended[0][0].using
    plain = [
        (claim, ending.result)
        for claim, ending in ended
        if isinstance(ending, Succeeded) and not ending.note and is_plain(claim)
    ]
    if not plain:
        return AfterCommit(), set()
    record = [
        _leaves.call(json.dumps([_described(*one) for one in plain]), *publish_times.parameters())
    ]
    lines = {claim.node.parent_id for claim, _ in plain if claim.node.is_blocking}
    if lines:
        record.insert(0, _lock_lines.call(array(lines)))
    found = session.execute_all(using, record, *_checks_after(plain))
    answers = found[len(record) :]
    return _written(plain, found[len(record) - 1], answers)


def _written(
    plain: Sequence[tuple[Claim, Any]], ended: Sequence[Row], seen: Sequence[Sequence[Row]]
) -> tuple[AfterCommit, set[UUID]]:
    """What the statement has done, and what is left to do after the look."""
    after_commit, written = AfterCommit(), set(completion.ids(ended))
    for claim, result in plain:
        if claim.node.pk in written:
            copy_to_instance(claim, result)
            after_commit.add_finished(claim.node)
            after_commit.announcements.completed.append(claim.node.pk)
    settled: set[UUID] = set()
    opened = [row for row in ended if row[2]]
    for row in opened:
        node = instance(Node, plain[0][0].using, rows.values(OPENED, row[4:]))
        after_commit.publications += publications_due([node], rows.moment(row[1] or ""))
        if node.counts:
            settled.add(UUID(row[2]))
    if seen:
        settled.update(completion.ids(seen[0]))
        after_commit.ended_signals.clear()
        after_commit.maybe_complete += completion.sources(seen[1])
    after_commit.maybe_complete = [
        pk for pk in dict.fromkeys(after_commit.maybe_complete) if pk not in settled
    ]
    return after_commit, written


def _checks_after(plain: Sequence[tuple[Claim, Any]]) -> list[list[Call]]:
    """What is asked after the commit, where that costs no round trip of its own."""
    if not session.is_unobserved(connections[plain[0][0].using]):
        return []
    nodes = [claim.node for claim, _ in plain]
    parents = {node.parent_id for node in nodes if node.counts and node.parent_id}
    signals = [node.pk for node in nodes if is_signal(node)]
    return [[completion.all_settled(parents), completion.linked(signals)]]


def _described(claim: Claim, result: Any) -> dict[str, Any]:
    return {
        "id": str(claim.node.pk),
        "attempt": claim.node.attempt,
        "claim_id": str(claim.claim_id),
        "task_id": claim.node.task_id,
        "before": claim.claimed_from,
        "result": encoded(result),
        "progress": encoded(claim.progress),
        "line": str(claim.node.parent_id) if claim.node.is_blocking else None,
        "seq": claim.node.seq,
    }

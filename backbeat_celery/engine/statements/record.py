"""Record the success of a node without children in one statement, history and attempt included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from backbeat_celery.engine import publish_times
from backbeat_celery.engine.after_commit import AT_ONCE, AfterCommit, publications_due
from backbeat_celery.engine.statements import completion
from backbeat_celery.inputs import payload
from backbeat_celery.inputs.node_spec import CALLBACKS, TURN
from backbeat_celery.models import Node
from backbeat_celery.models.fields import ENVELOPE
from backbeat_celery.models.transitions import cleared_by
from backbeat_celery.runtime.compat.django import instance
from backbeat_celery.runtime.sessions import connection_to
from backbeat_celery.sql import rows, session
from backbeat_celery.sql.statement import Call, Row, Statement
from backbeat_celery.states import Outcome, Status

if TYPE_CHECKING:
    from backbeat_celery.engine.claim import Claim

STEPS = [(Status.QUEUED, Status.RUNNING), (Status.RUNNING, Status.COMPLETE)]

CLEARED = cleared_by(Status.COMPLETE)
COMPLETED = f"""
    status = {{complete}}, outcome = {{succeeded}}, error = NULL, lost_attempts = 0,
        finished_at = {{now}}, {", ".join(f"{name} = NULL" for name in CLEARED)}
""".strip()

# Of nodes that have ended: the steps of their attempts, and what the attempts were.
HISTORY = """
steps AS (
    INSERT INTO {transitions} (node_id, from_status, to_status, at, attempt, actor, reason)
    SELECT ended.id, CASE step.number WHEN 1 THEN ended.before ELSE {running} END, step.after,
           CASE step.number WHEN 1 THEN ended.started_at ELSE {now} END, ended.attempt,
           CASE step.number WHEN 1 THEN left(ended.worker, 150) ELSE '' END, ''
    FROM ended
    CROSS JOIN (VALUES (1, {running}), (2, {complete})) AS step (number, after)
    ORDER BY ended.id, step.number
), attempts AS (
    INSERT INTO {attempts} (
        node_id, number, claim_id, task_id, worker, started_at, finished_at, outcome
    )
    SELECT id, attempt, claim_id, task_id, worker, started_at, {now}, {succeeded} FROM ended
)
""".strip()

ENDED = """
ended AS (
    UPDATE {{nodes}}
    SET {completed}, result = $4, progress = coalesce($6, progress)
    WHERE id = $1::uuid AND status = {{running}} AND attempt = $2::int AND claim_id = $3::uuid
      AND next_seq = 0{guard}
    RETURNING id, attempt, worker, started_at, $3::uuid AS claim_id, $7::text AS task_id,
        $5::text AS before
), {history}
"""


def _ended(guard: str = "") -> str:
    return ENDED.format(completed=COMPLETED, guard=guard, history=HISTORY)


_leaf = Statement(
    "leaf",
    f"WITH {_ended()} SELECT 1 FROM ended",
    steps=STEPS,
    reaches=["finish_written", "record_written"],
)

_lock = Statement(
    "lock",
    "SELECT 1 FROM {nodes} WHERE id = $1::uuid FOR NO KEY UPDATE",
    reaches=["parent_locked"],
)

# All that the message of an opened node and its look need: a column that is missing here would
# be read by a statement of its own.
OPENED = (
    *("id", "task", "remote", "options", "args", "kwargs", "attempt", "mode", "fires_at"),
    "input",
)


def turn(parent: str, seq: str) -> str:
    """SQL for the siblings whose turn comes when the blocking child at `seq` ends, locked.

    They are those up to the next blocking one. Flags, containers, barriers and times that count
    from the turn have rules of their own, and many are written some at a time, so with one of
    these nothing is written. The parent is
    locked before, in a statement of its own, so that this one sees what others did until then.
    """
    return f"""
    SELECT sibling.id, sibling.task = '' OR sibling.barrier OR sibling.seq > {seq} + {AT_ONCE}
        OR sibling.options::jsonb ->> '{TURN}' IS NOT NULL AS is_special
    FROM {{nodes}} AS sibling
    WHERE sibling.parent_id = {parent} AND sibling.seq > {seq} AND sibling.status = {{ready}}
      AND sibling.seq <= coalesce((
          SELECT awaited.seq FROM {{nodes}} AS awaited
          WHERE awaited.awaited_by = {parent} AND awaited.mode = {{blocking}}
            AND awaited.seq > {seq}
          ORDER BY awaited.seq LIMIT 1
      ), 2147483647)
    ORDER BY sibling.seq
    FOR NO KEY UPDATE
""".strip()


OPEN_STEPS = """
opened_steps AS (
    INSERT INTO {transitions} (node_id, from_status, to_status, at, attempt, actor, reason)
    SELECT id, {ready}, {queued}, {now}, attempt, '', '' FROM opened ORDER BY seq
)
""".strip()

_blocking_leaf = Statement(
    "blocking_leaf",
    f"""
WITH turn AS MATERIALIZED (
    {turn("$8::uuid", "$9::int")}
), {_ended(" AND NOT EXISTS (SELECT FROM turn WHERE is_special)")}, opened AS (
    UPDATE {{nodes}} AS node
    SET status = {{queued}}, publish_at = {publish_times.publish_at_sql("node", "$10", "$11")}
    FROM turn, ended
    WHERE node.id = turn.id
    RETURNING node.seq, {rows.selected(OPENED, "node")}
), {OPEN_STEPS}
SELECT {rows.microseconds("{now}")}, opened.* FROM ended LEFT JOIN opened ON TRUE
ORDER BY opened.seq
""",
    steps=[*STEPS, (Status.READY, Status.QUEUED)],
    reaches=["finish_written", "stage_opened", "record_written"],
)


def record_leaf(claim: Claim, result: Any) -> AfterCommit | None:
    """Complete a node that has no children, and queue what stood behind it.

    None if it is another kind of node, if the guard did not hold, or if a flag or a barrier
    stands behind it; then nothing is written.
    """
    if not is_plain(claim):
        return None
    record = _record_blocking if claim.node.is_blocking else _record
    after_commit = record(claim, _values(claim, result))
    if after_commit is not None:
        copy_to_instance(claim, result)
        after_commit.announcements.completed.append(claim.node.pk)
    return after_commit


def is_plain(claim: Claim) -> bool:
    """Whether the end of this attempt is nothing but the end of one node."""
    node = claim.node
    return (
        not claim.specs
        and CALLBACKS not in node.options
        and node.next_seq == 0
        and node.parent_id is not None
        and claim.claimed_from != ""
        and not node.awaits_report
        and session.is_available(claim.using)
    )


def _record(claim: Claim, values: Sequence[str | None]) -> AfterCommit | None:
    ended, *seen = session.execute_all(
        claim.using, [_leaf.call(*values)], *_checks_after(claim, claim.node.counts)
    )
    if not ended:
        return None
    after_commit = AfterCommit()
    after_commit.add_finished(claim.node)
    _forget_what_is_settled(after_commit, seen)
    return after_commit


def _record_blocking(claim: Claim, values: Sequence[str | None]) -> AfterCommit | None:
    node, using = claim.node, claim.using
    behind = [str(node.parent_id), str(node.seq)]
    lock, end = (
        _lock.call(behind[0]),
        _blocking_leaf.call(*values, *behind, *publish_times.parameters()),
    )
    _, ended, *seen = session.execute_all(
        using, [lock, end], *_checks_after(claim, is_signal(node))
    )
    if not ended:
        return None
    after_commit = AfterCommit()
    after_commit.add_finished(node)
    opened = [instance(Node, using, rows.values(OPENED, row[2:])) for row in ended if row[1]]
    after_commit.publications += publications_due(opened, rows.moment(ended[0][0] or ""))
    if any(row.counts for row in opened):
        after_commit.maybe_complete.clear()
    _forget_what_is_settled(after_commit, seen)
    return after_commit


def is_signal(node: Node) -> bool:
    """Whether the node is a child of its workflow's root."""
    return node.parent_id == node.workflow_id


def _checks_after(claim: Claim, is_useful: bool) -> list[list[Call]]:
    """What is asked after the commit, where that costs no round trip of its own."""
    node = claim.node
    if not is_useful or not session.is_unobserved(connection_to(claim.using)):
        return []
    assert node.parent_id is not None
    asked = [completion.settled(node.parent_id)]
    return [[*asked, completion.linked([node.pk])] if is_signal(node) else asked]


def _forget_what_is_settled(after_commit: AfterCommit, seen: Sequence[Sequence[Row]]) -> None:
    """Take from the work after a commit what a look after the commit has seen to be settled."""
    if seen and completion.says_settled(seen[0]):
        after_commit.maybe_complete.clear()
    if len(seen) > 1:
        after_commit.ended_signals.clear()
        after_commit.maybe_complete += completion.sources(seen[1])


def _values(claim: Claim, result: Any) -> list[str | None]:
    node = claim.node
    return [
        str(node.pk),
        str(node.attempt),
        str(claim.claim_id),
        encoded(result),
        claim.claimed_from,
        encoded(claim.progress),
        node.task_id,
    ]


def encoded(value: Any) -> str | None:
    """A value as a payload's column keeps it."""
    return None if value is None else payload.encode(value, "value", ENVELOPE)


def copy_to_instance(claim: Claim, result: Any) -> None:
    """Write into the instance what was written into its row."""
    node = claim.node
    if claim.progress is not None:
        node.progress = claim.progress
    vars(node).update(
        {
            "status": Status.COMPLETE,
            "outcome": Outcome.SUCCEEDED,
            "result": result,
            "error": None,
            "lost_attempts": 0,
            **dict.fromkeys(CLEARED),
        }
    )

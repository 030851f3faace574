"""Claim a node's first attempt in one statement that also reads what its handler needs."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from backbeat_celery.conf import settings
from backbeat_celery.models import Node, Workflow
from backbeat_celery.runtime.compat.django import instance, keep_related
from backbeat_celery.runtime.sessions import connection_to
from backbeat_celery.sql import columns, rows, session
from backbeat_celery.sql.statement import Row, Statement, array
from backbeat_celery.states import Input, Status, Yields

if TYPE_CHECKING:
    from backbeat_celery.engine.claim import NodeMessage

# What the handler and its record need; the claim itself knows the rest.
COLUMNS = (
    *("id", "workflow_id", "parent_id", "seq", "stage", "retries", "lost_attempts", "fires_at"),
    *("started_at", "next_seq", "next_stage", "next_barrier"),
    *columns.without({"task", "remote", "awaits_completion", "key", "container"}),
)

# A node that has never been claimed can only be queued, so the status that it had is known.
# The workflow is asked by probes of its key: a plan that a server has made for a join while
# the tables were empty reads all workflows, and is kept until they are analyzed.
WORKFLOW = (
    "(SELECT workflow.{column} FROM {{workflows}} AS workflow"
    " WHERE workflow.id = node.workflow_id)"
)
# What most nodes with an input take: the result of the task before them. Anything else is read
# by a query of its own.
HANDED_TEXT = "handed_text"
"""Where a claimed node notes that result, as the text of its JSON."""

HANDED = f"""
CASE WHEN node.input = {int(Input.PREVIOUS)} THEN (
    SELECT before.result FROM {{nodes}} AS before
    WHERE before.parent_id = node.parent_id AND before.seq = node.seq - 1
      AND before.yields = {int(Yields.OWN)} AND before.status = {{complete}}
      AND before.mode = {{blocking}}
) END
""".strip()
CLAIM = f"""
UPDATE {{nodes}} AS node
SET status = {{running}}, attempt = 1, claim_id = $2::uuid, worker = $3, task_id = $7,
    started_at = {{now}}, publish_at = NULL, progress = NULL, expires_at = NULL,
    lease_expires_at = {{now}} + make_interval(secs => $4::float8),
    times_out_at = {{now}} + make_interval(secs => $5::float8)
WHERE %s AND node.task = $6 AND node.status = {{queued}} AND node.attempt = 0
  AND (node.fires_at IS NULL OR node.fires_at <= {{now}})
  AND (node.expires_at IS NULL OR node.expires_at > {{now}})
  AND NOT node.remote AND NOT node.awaits_completion
  AND {WORKFLOW.format(column="paused_at IS NULL")}
RETURNING {rows.selected(COLUMNS, "node")},
    {WORKFLOW.format(column="name")}, {WORKFLOW.format(column="subject")},
    {HANDED}%s
"""

# A claim that a crash of the server forgets is made again, and `claim_id` fences the forgotten
# one: its commit need not wait for the disk. Only where the claim is its own transaction.
RELAXED = ", set_config('synchronous_commit', 'off', TRUE)"


def _statements(name: str, which: str) -> tuple[Statement, Statement]:
    """The claim of certain nodes, inside a transaction and as one of its own."""
    steps, reaches = [(Status.QUEUED, Status.RUNNING)], ["claim_written"]
    return (
        Statement(name, CLAIM % (which, ""), steps=steps, reaches=reaches),
        Statement(f"{name}_relaxed", CLAIM % (which, RELAXED), steps=steps, reaches=reaches),
    )


# Everything but what may be large and no claim reads.
ALL = tuple(name for name in rows.READERS if name not in {"result", "error"})
_node = Statement(
    "node",
    f"""
SELECT {rows.selected(ALL, "node")}, {rows.microseconds("{now}")},
    {WORKFLOW.format(column="name")}, {WORKFLOW.format(column="subject")},
    {rows.microseconds(WORKFLOW.format(column="paused_at"))}
FROM {{nodes}} AS node WHERE node.id = $1::uuid
""",
)

_one = _statements("claim", "node.id = $1::uuid")
_several = _statements("claim_several", "node.id = ANY($1::uuid[])")


def claim_first(
    message: NodeMessage, worker: str, timeout: float | None
) -> tuple[Node, datetime] | None:
    """Claim the attempt; give the node and the database's time.

    None if it is not a first attempt, not a plain node, or not to be had; the caller finds
    out which.
    """
    if message.attempt != 1 or not session.is_available(message.using):
        return None
    found = _execute(_one, str(message.node_id), message, worker, timeout)
    return _claimed(message, worker, found[0]) if found else None


def find_node(message: NodeMessage) -> Node | None:
    """The node that a message names, with its workflow and `db_now`; None: no such node.

    Of most messages that are not to be had this is all that is asked, and a query set takes
    ten times as long to say so.
    """
    found = session.execute(message.using, _node, str(message.node_id))
    return _read(message.using, found[0]) if found else None


def _read(using: str, row: Row) -> Node:
    node = instance(Node, using, rows.values(ALL, row))
    now, name, subject, paused_at = row[len(ALL) :]
    assert now is not None
    node.db_now = rows.moment(now)
    paused = None if paused_at is None else rows.moment(paused_at)
    fields = {"id": node.workflow_id, "name": name, "subject": subject, "paused_at": paused}
    keep_related(node, "workflow", instance(Workflow, using, fields))
    return node


def claim_several(
    message: NodeMessage, worker: str, timeout: float | None
) -> list[tuple[Node, datetime]]:
    """Claim those of a bundle's nodes that `claim_first` would claim."""
    if not session.is_available(message.using):
        return []
    found = _execute(_several, array(message.node_ids), message, worker, timeout)
    return [_claimed(message, worker, row) for row in found]


def _execute(
    statements: tuple[Statement, Statement],
    ids: str,
    message: NodeMessage,
    worker: str,
    timeout: float | None,
) -> list[Row]:
    is_own = not connection_to(message.using).in_atomic_block
    return session.execute(
        message.using,
        statements[is_own],
        ids,
        str(message.claim_id),
        worker[:255],
        repr(settings.lease),
        None if timeout is None else repr(float(timeout)),
        message.task,
        message.task_id,
    )


def _claimed(message: NodeMessage, worker: str, row: Row) -> tuple[Node, datetime]:
    fields = rows.values(COLUMNS, row)
    fields |= {
        "task": message.task,
        "status": Status.RUNNING,
        "attempt": 1,
        "claim_id": message.claim_id,
        "task_id": message.task_id,
        "worker": worker[:255],
        "remote": False,
        "awaits_completion": False,
        "progress": None,
        "expires_at": None,
        "container": "",
    }
    node = instance(Node, message.using, fields)
    name, subject, handed = row[len(COLUMNS) : len(COLUMNS) + 3]
    if handed is not None:
        vars(node)[HANDED_TEXT] = handed
    workflow = {"id": node.workflow_id, "name": name, "subject": subject, "paused_at": None}
    keep_related(node, "workflow", instance(Workflow, message.using, workflow))
    assert node.started_at is not None
    return node, node.started_at

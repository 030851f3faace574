"""See in one statement that a parent has nothing to do yet, which is what most looks see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from backbeat_celery.sql import session
from backbeat_celery.sql.statement import Call, Row, Statement, array
from backbeat_celery.states import COUNTING

# From the far end of the line: children mostly end in order, and index entries of those that
# have ended stay in the way until the table is vacuumed. Each question is for one entry in
# order: without ORDER BY the planner may read the entries of all children to answer it. The
# workflow is asked for its value: for an EXISTS the planner may read all that are closed.
OPEN_BEFORE_BARRIER = " OR ".join(
    f"""
        (SELECT TRUE FROM {{nodes}} AS child
         WHERE child.awaited_by = above.id AND child.mode = {{{mode}}}
           AND child.seq < above.next_barrier
         ORDER BY child.seq DESC LIMIT 1)
""".strip()
    for mode in sorted(COUNTING)
)

IS_SETTLED = f"""
above.status <> {{waiting}} OR (
    (above.next_barrier IS NULL OR
        {OPEN_BEFORE_BARRIER})
    AND (
        (SELECT TRUE FROM {{nodes}} AS child WHERE child.awaited_by = above.id
         ORDER BY child.mode DESC, child.seq DESC LIMIT 1)
        OR (above.parent_id IS NULL AND (
            SELECT workflow.closed_at IS NULL FROM {{workflows}} AS workflow
            WHERE workflow.id = above.workflow_id
        ) IS NOT FALSE)
    )
)
""".strip()

_settled = Statement(
    "settled", f"SELECT {IS_SETTLED} FROM {{nodes}} AS above WHERE above.id = $1::uuid"
)

_all_settled = Statement(
    "all_settled",
    f"SELECT above.id FROM {{nodes}} AS above WHERE above.id = ANY($1::uuid[]) AND ({IS_SETTLED})",
)

_linked = Statement("linked", "SELECT source_id FROM {links} WHERE target_id = ANY($1::uuid[])")


def is_settled(node_id: UUID, using: str) -> bool:
    """Tell whether a look at this node would change nothing; False: look and see."""
    if not session.is_available(using):
        return False
    return says_settled(session.execute_all(using, [settled(node_id)])[0])


def settled(node_id: UUID) -> Call:
    """The question whether a look at this node would change nothing."""
    return _settled.call(str(node_id))


def says_settled(found: Sequence[Row]) -> bool:
    """Read the answer to `settled`; a node that is gone is settled."""
    return not found or found[0][0] == "t"


def all_settled(node_ids: Iterable[UUID]) -> Call:
    """The question which of these nodes a look would not change."""
    return _all_settled.call(array(node_ids))


def linked_to(node_ids: Sequence[UUID], using: str) -> list[UUID] | None:
    """The nodes that are linked to these signals; None: ask by other means."""
    if not session.is_available(using):
        return None
    return sources(session.execute_all(using, [linked(node_ids)])[0])


def linked(node_ids: Sequence[UUID]) -> Call:
    """The question which nodes are linked to these signals."""
    return _linked.call(array(node_ids))


def sources(found: Sequence[Row]) -> list[UUID]:
    """Read the answer to `linked`."""
    return ids(found)


def ids(found: Sequence[Row]) -> list[UUID]:
    """Read rows of ids."""
    return [UUID(row[0]) for row in found]

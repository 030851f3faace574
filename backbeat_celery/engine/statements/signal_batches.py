"""Write many signals in a few statements, in the caller's transaction.

What is written, and the order in which workflows are locked or opened, is that of signals
which are sent one by one: neighbours in that order are taken together as long as their
workflows are all open, or all new.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from backbeat_celery.engine import publish_times
from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.engine.statements.signals import (
    CHILD_COLUMNS,
    IS_HELD,
    RETURNED,
    ROOT_COLUMNS,
    RUN_COLUMNS,
    closing,
    is_plain,
    node,
    open_run,
    publications,
    publish_at,
    settled_runs,
)
from backbeat_celery.inputs import payload
from backbeat_celery.models import Node
from backbeat_celery.runtime.batches import batched
from backbeat_celery.runtime.ids import uuid7
from backbeat_celery.sql import columns, session
from backbeat_celery.sql.rows import text
from backbeat_celery.sql.statement import Row, Statement, array

if TYPE_CHECKING:
    from backbeat_celery.api import CheckedSignal
    from backbeat_celery.inputs.node_spec import NodeSpec

MOST = 1000
"""Signals in one statement."""

# What the batch says of each signal. `run_id` is the id of a run that is to be opened, and
# `closes` whether one of its signals in the batch closes it.
SENT = f"""
sent AS MATERIALIZED (
    SELECT * FROM json_to_recordset($1::json) AS sent (
        position int, workflow varchar, subject varchar, run_id uuid, closes boolean, id uuid,
        counts boolean, fires_at timestamptz, delay float8, {columns.typed()}
    )
)
"""


def open_id(guard: str = "TRUE") -> str:
    """SQL for the open run of each, by a probe of its own: a join may read all workflows."""
    found = open_run("sent.workflow", "sent.subject")
    return f"(SELECT run.id FROM ({found}) AS run WHERE {guard}) AS open_id"


# The places of a run's new signals, behind what it has: seq, stage, and whether one holds
# back the next.
LINE = """
row_number() OVER line - 1 AS ahead,
count(*) FILTER (WHERE sent.mode = {{blocking}})
    OVER (line ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS blocking_ahead
"""

CHILD = """
child AS (
    INSERT INTO {{nodes}} (
        {columns}
    )
    SELECT place.id, place.run_id, place.run_id, CASE WHEN place.counts THEN place.run_id END,
        place.seq, place.stage, place.status, place.fires_at, {publish_at}, {{now}}, {from_spec}
    FROM ({place}) AS place
    ORDER BY place.position
    RETURNING id, workflow_id, seq, stage, status, {returned}
)
SELECT * FROM child
"""


def _child(place: str) -> str:
    return CHILD.format(
        columns=CHILD_COLUMNS,
        from_spec=columns.listed(prefix="place."),
        publish_at=publish_at("$2", "$3"),
        place=place,
        returned=RETURNED,
    )


PLACE = f"""
    SELECT sent.position, sent.id, run.id AS run_id, sent.counts,
        {columns.listed(prefix="sent.")},
        coalesce(sent.fires_at, {{{{now}}}} + make_interval(secs => sent.delay)) AS fires_at,
        run.next_seq + sent.ahead AS seq, run.next_stage + sent.blocking_ahead AS stage,
        CASE WHEN run.is_held OR sent.blocking_ahead > 0 THEN {{{{ready}}}} ELSE {{{{queued}}}} END
            AS status
"""

_look = Statement(
    "look_at_runs",
    f"""
WITH {SENT.format()}, found AS (SELECT sent.*, {open_id()} FROM sent)
SELECT position FROM found WHERE open_id IS NOT NULL
""",
)

# Arrays of ids, here and below: for a join alone a planner that knows nothing of the tables
# may read all nodes.
# As in signals.py, the lock is a statement of its own, and what is not locked is not written.
_lock = Statement(
    "lock_runs",
    f"""
WITH {SENT.format()}, found AS (SELECT sent.*, {open_id()} FROM sent)
SELECT root.id
FROM found JOIN {{nodes}} AS root ON root.id = found.open_id
WHERE root.id = ANY(ARRAY(SELECT open_id FROM found))
ORDER BY found.position
FOR NO KEY UPDATE OF root
""",
)

OPEN_AND_LOCKED = "run.closed_at IS NULL AND run.id = ANY($4::uuid[])"

_append = Statement(
    "append_signals",
    f"""
WITH {SENT.format()}, found AS (
    SELECT sent.*, {open_id(OPEN_AND_LOCKED)} FROM sent
), line AS (
    SELECT sent.*, {LINE.format()} FROM found AS sent
    WHERE sent.open_id IS NOT NULL
    WINDOW line AS (PARTITION BY sent.open_id ORDER BY sent.position)
), run AS (
    SELECT root.id, root.next_seq, root.next_stage, added.children, added.blocking, (
        {IS_HELD}
    ) AS is_held
    FROM (
        SELECT open_id, count(*) AS children,
            count(*) FILTER (WHERE mode = {{blocking}}) AS blocking
        FROM line GROUP BY open_id
    ) AS added JOIN {{nodes}} AS root ON root.id = added.open_id
    WHERE root.status = {{waiting}} AND root.id = ANY($4::uuid[])
), counted AS (
    UPDATE {{nodes}} AS root
    SET next_seq = root.next_seq + run.children, next_stage = root.next_stage + run.blocking
    FROM run WHERE root.id = run.id AND root.id = ANY($4::uuid[])
    RETURNING root.id
), {
        _child(
            PLACE.format()
            + '''
    FROM line AS sent JOIN run ON run.id = sent.open_id JOIN counted ON counted.id = run.id'''
        )
    }
""",
)

_open = Statement(
    "open_runs",
    f"""
WITH {SENT.format()}, line AS (
    SELECT sent.*, {LINE.format()} FROM sent
    WINDOW line AS (PARTITION BY sent.run_id ORDER BY sent.position)
), opened AS (
    INSERT INTO {{workflows}} (
        {RUN_COLUMNS}
    )
    SELECT line.run_id, line.workflow, line.subject, coalesce((
            SELECT max(earlier.run) FROM {{workflows}} AS earlier
            WHERE earlier.name = line.workflow AND earlier.subject = line.subject
        ), 0) + 1, TRUE, {{now}}, '{{{{}}}}', {closing("line.closes")}
    FROM line WHERE line.ahead = 0
    ORDER BY line.position
    ON CONFLICT DO NOTHING
    RETURNING id, name
), root AS (
    INSERT INTO {{nodes}} (
        {ROOT_COLUMNS}
    )
    SELECT opened.id, opened.id, 0, 0, FALSE, '', opened.name, {{non_blocking}}, {{waiting}},
        '[]', '{{{{}}}}', '{{{{}}}}', '{{{{}}}}', {{now}}, added.children, added.blocking
    FROM opened JOIN (
        SELECT run_id, count(*) AS children,
            count(*) FILTER (WHERE mode = {{blocking}}) AS blocking
        FROM sent GROUP BY run_id
    ) AS added ON added.run_id = opened.id
    RETURNING id
), {
        _child(
            PLACE.format()
            + '''
    FROM line AS sent
    JOIN (SELECT id, 0 AS next_seq, 0 AS next_stage, FALSE AS is_held FROM root) AS run
        ON run.id = sent.run_id'''
        )
    }
""",
)


def can_write(signals: Sequence[CheckedSignal], using: str) -> bool:
    """Tell whether these are signals for `write_signals`: plain, in a database that takes them."""
    return session.is_available(using) and all(map(is_plain, signals))


def write_signals(
    signals: Sequence[CheckedSignal], using: str
) -> tuple[list[Node], AfterCommit] | None:
    """Write signals in this order, in the caller's transaction; give their nodes.

    None if a run is closed, if an open one is to be closed, or if one is opened or ended by
    another process meanwhile. Then some may be written: the caller rolls back.
    """
    after_commit = AfterCommit()
    nodes: list[Node] = []
    for some in batched(signals, MOST):
        for rows, is_open in _group_by_run(some, using):
            if is_open and any(row["closes"] for row in rows):
                return None
            if is_open:
                found = _written(_append, rows, using, _locked(rows, using))
            else:
                found = _written(_open, rows, using)
            if len(found) < len(rows):
                return None
            by_id = {row[0]: row[1:] for row in found}
            for row in rows:
                signal = some[row["position"]]
                nodes.append(node(signal.spec, by_id[row["id"]], using))
    for signal, written in zip(signals, nodes, strict=True):
        after_commit.publications += publications(written)
        after_commit.maybe_complete += settled_runs(signal, written)
    return nodes, after_commit


def _group_by_run(
    signals: Sequence[CheckedSignal], using: str
) -> Iterator[tuple[list[Mapping[str, Any]], bool]]:
    """Neighbours whose runs are all open, or all to be opened."""
    runs: dict[tuple[str, str], str] = {}
    rows: list[Mapping[str, Any]] = []
    closed = {signal.workflow for signal in signals if signal.close}
    for position, signal in enumerate(signals):
        run_id = runs.setdefault((signal.name, signal.subject), str(uuid7()))
        described = {"workflow": signal.name, "subject": signal.subject, "run_id": run_id}
        whether = {"position": position, "closes": signal.workflow in closed}
        rows.append({**described, **whether, **_as_json(signal.spec)})
    found = session.execute(using, _look, payload.json_text(rows))
    is_open = {int(row[0] or 0) for row in found}
    for known, group in groupby(rows, key=lambda row: row["position"] in is_open):
        yield list(group), known


def _as_json(spec: NodeSpec) -> Mapping[str, Any]:
    return {
        "id": str(spec.id),
        "counts": spec.counts,
        "fires_at": text(spec.fires_at),
        "delay": None if spec.delay is None else float(spec.delay),
        **columns.as_json(spec),
    }


def _locked(rows: Sequence[Mapping[str, Any]], using: str) -> str:
    found = session.execute(using, _lock, payload.json_text(rows))
    return array(dict.fromkeys(row[0] for row in found))


def _written(
    statement: Statement, rows: Sequence[Mapping[str, Any]], using: str, *more: str
) -> list[Row]:
    return session.execute(
        using, statement, payload.json_text(rows), *publish_times.parameters(), *more
    )

"""Write a signal in one round trip: to the run that is open, or to a new one.

Only the plain case: one signal without key and link, sent from outside of handlers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from backbeat_celery.engine import publish_times
from backbeat_celery.engine.after_commit import AfterCommit, Publication, publications_due
from backbeat_celery.models import Node
from backbeat_celery.runtime.current_node import running
from backbeat_celery.runtime.ids import uuid7
from backbeat_celery.sql import columns, rows, session
from backbeat_celery.sql.statement import Row, Statement
from backbeat_celery.states import Status

if TYPE_CHECKING:
    from backbeat_celery.api import CheckedSignal
    from backbeat_celery.inputs.node_spec import NodeSpec

CHILD_COLUMNS = f"""
        id, workflow_id, parent_id, awaited_by, seq, stage, status, fires_at, publish_at,
        created_at, {columns.listed()}
""".strip()

ROOT_COLUMNS = """
        id, workflow_id, seq, stage, barrier, task, name, mode, status, args, kwargs, options,
        metadata, created_at, next_seq, next_stage
""".strip()

# Of the blocking signals that are unfinished the newest is looked for, since index entries of
# those that have ended stay in the way until the table is vacuumed.
IS_HELD = """
        SELECT TRUE FROM {nodes} AS ahead
        WHERE ahead.awaited_by = root.id AND ahead.mode = {blocking}
        ORDER BY ahead.seq DESC LIMIT 1
""".strip()


def publish_at(lease: str, horizon: str) -> str:
    """SQL for the next message of a new node of a place; none before its turn."""
    return f"""
        CASE WHEN place.status = {{queued}}
            THEN {publish_times.publish_at_sql("place", lease, horizon)}
        END
""".strip()


# $1 and $2 are the workflow's name and subject, $3 to $6 the child's id, whether it counts, and
# its time; $7 and $8 lease and horizon; then the columns from its spec; the last parameter is
# the id of a new workflow, and after it whether that takes no more signals.
SPEC = columns.parameters(first=9)
NEW_ID = f"${9 + len(SPEC)}"
CLOSES = f"${10 + len(SPEC)}"
CHILD = f"""
child AS (
    INSERT INTO {{{{nodes}}}} (
        {CHILD_COLUMNS}
    )
    SELECT $3::uuid, place.id, place.id, CASE WHEN $4::boolean THEN place.id END, place.seq,
        place.stage, place.status, place.fires_at,
        {{publish_at}},
        {{{{now}}}}, {", ".join(SPEC.values())}
    FROM ({{place}}) AS place
    RETURNING workflow_id, seq, stage, status, {{returned}}
)
SELECT * FROM child
"""
TIMES = ("fires_at", "publish_at", "created_at")
TIMED = publish_at("$7", "$8")
RETURNED = ", ".join(rows.microseconds(name) for name in TIMES)
FIRES_AT = "coalesce($5::timestamptz, {now} + make_interval(secs => $6::float8)) AS fires_at"


CLOSE_REASON = "closed by its last signal"

RUN_COLUMNS = """
        id, name, subject, run, unfinished, created_at, metadata, closed_at, close_reason
""".strip()


def closing(closes: str) -> str:
    """SQL for the last two columns of a new run, which may be closed by its own signal."""
    return f"""
        CASE WHEN {closes} THEN {{now}} END, CASE WHEN {closes} THEN '{CLOSE_REASON}' ELSE '' END
""".strip()


# The run that is open can only be the last one. A planner that knows nothing of the table takes
# any index that begins with the name for as good as the right one, unless the order decides.
def open_run(name: str, subject: str) -> str:
    """SQL for the open run of a workflow, if it has one: its id, and whether it is closed."""
    return f"""
    SELECT last.id, last.closed_at FROM (
        SELECT workflow.id, workflow.unfinished, workflow.closed_at
        FROM {{workflows}} AS workflow
        WHERE workflow.name = {name} AND workflow.subject = {subject}
        ORDER BY workflow.run DESC LIMIT 1
    ) AS last WHERE last.unfinished
""".strip()


# The first of three statements in one transaction notes what it has locked, if anything. The
# second appends to that alone: a run that is opened between the two is not locked. The third
# opens a run if none was there, and does nothing if another transaction was faster. It is tried
# alone before, for a subject that this process has sent no signal to of late.
_lock = Statement(
    "lock_run",
    f"""
SELECT set_config('backbeat.locked', coalesce((
    SELECT root.id::text FROM {{nodes}} AS root
    WHERE root.id = (SELECT id FROM ({open_run("$1::varchar", "$2::varchar")}) AS run)
    FOR NO KEY UPDATE
), ''), TRUE)
""",
)

# The lock is a statement of its own, so that this one sees what others did until then.
_append = Statement(
    "append_signal",
    f"""
WITH run AS (
    SELECT root.id, root.next_seq, root.next_stage, (
        {IS_HELD}
    ) AS is_held
    FROM {{nodes}} AS root
    WHERE root.id = nullif(current_setting('backbeat.locked', TRUE), '')::uuid
      AND root.status = {{waiting}} AND (
          SELECT workflow.name = $1::varchar AND workflow.subject = $2::varchar
              AND workflow.unfinished AND workflow.closed_at IS NULL
          FROM {{workflows}} AS workflow WHERE workflow.id = root.id
      )
), counted AS (
    UPDATE {{nodes}} AS root
    SET next_seq = root.next_seq + 1,
        next_stage = root.next_stage + ({SPEC["mode"]} = {{blocking}})::int
    FROM run WHERE root.id = (SELECT id FROM run)
    RETURNING root.id
), {
        CHILD.format(
            publish_at=TIMED,
            returned=RETURNED,
            place=f'''
        SELECT run.id, run.next_seq AS seq, run.next_stage AS stage, {FIRES_AT},
            CASE WHEN run.is_held THEN {{ready}} ELSE {{queued}} END AS status
        FROM run JOIN counted ON counted.id = run.id''',
        )
    }
""",
)

_open = Statement(
    "open_run",
    f"""
WITH run AS (
    INSERT INTO {{workflows}} (
        {RUN_COLUMNS}
    )
    SELECT {NEW_ID}::uuid, $1::varchar, $2::varchar, coalesce(max(run), 0) + 1, TRUE, {{now}},
        '{{{{}}}}', {closing(f"{CLOSES}::boolean")}
    FROM {{workflows}} WHERE name = $1::varchar AND subject = $2::varchar
    HAVING coalesce(current_setting('backbeat.locked', TRUE), '') = ''
    ON CONFLICT DO NOTHING
    RETURNING id, name
), root AS (
    INSERT INTO {{nodes}} (
        {ROOT_COLUMNS}
    )
    SELECT id, id, 0, 0, FALSE, '', name, {{non_blocking}}, {{waiting}}, '[]', '{{{{}}}}',
        '{{{{}}}}', '{{{{}}}}', {{now}}, 1, ({SPEC["mode"]} = {{blocking}})::int
    FROM run
    RETURNING id
), {
        CHILD.format(
            publish_at=TIMED,
            returned=RETURNED,
            place=f'''
        SELECT root.id, 0 AS seq, 0 AS stage, {FIRES_AT}, {{queued}} AS status FROM root''',
        )
    }
""",
)


class RecentWorkflows:
    """Workflows that this process has sent a signal to of late, whose run is open as a rule.

    It only decides what is tried first.
    """

    MOST = 1000

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], None] = {}

    def has(self, signal: CheckedSignal) -> bool:
        return (signal.name, signal.subject) in self._names

    def add(self, signal: CheckedSignal) -> None:
        if len(self._names) >= self.MOST:
            self._names.clear()
        self._names[signal.name, signal.subject] = None


_recent = RecentWorkflows()

Prepare = Callable[[Publication, str], None]
"""Makes the message for a publication of a database."""


def write_signal(
    signal: CheckedSignal, using: str, prepare: Prepare
) -> tuple[Node, AfterCommit] | None:
    """Write a signal in a transaction of its own, or in the caller's; give what it leaves to do.

    `prepare` makes the message of a node that is due at once, while the server is at work.
    None if it is not a plain one, if its run is closed or just opened by another process, or if
    it closes a run that is open; then nothing is written.
    """
    spec = signal.spec
    if not is_plain(signal) or not session.is_available(using):
        return None
    values = [signal.name, signal.subject, *_texts(spec)]
    begin = _open.call(*values, str(uuid7()), str(signal.close))
    is_due = spec.fires_at is None and spec.delay is None
    expected = Publication.first(spec, countdown=0) if is_due else None
    meanwhile = None if expected is None else partial(prepare, expected, using)
    found = []
    if signal.close or not _recent.has(signal):
        (found,) = session.execute_all(using, [begin], meanwhile=meanwhile)
    if not found and not signal.close:
        lock, append = _lock.call(signal.name, signal.subject), _append.call(*values)
        _, appended, opened = session.execute_all(
            using, [lock, append, begin], meanwhile=meanwhile
        )
        found = appended or opened
    if not found:
        return None
    if not signal.close:
        _recent.add(signal)
    written = node(spec, found[0], using)
    after_commit = AfterCommit(maybe_complete=settled_runs(signal, written))
    if expected is not None and written.status == Status.QUEUED:
        after_commit.publications.append(expected)
    else:
        after_commit.publications += publications(written)
    return written, after_commit


def settled_runs(signal: CheckedSignal, written: Node) -> list[UUID]:
    """The closed run of a signal for which it does not wait: it may be finished at once."""
    return [written.workflow_id] if signal.close and not signal.spec.counts else []


def is_plain(signal: CheckedSignal) -> bool:
    """Whether a signal is one without key, link and expiry, sent from outside of handlers."""
    spec = signal.spec
    is_simple = not spec.container and spec.expires_at is None and spec.expires_in is None
    is_simple = is_simple and spec.key is None and signal.link is None
    return is_simple and running.get() is None


def _texts(spec: NodeSpec) -> list[str | None]:
    return [
        str(spec.id),
        str(spec.counts),
        rows.text(spec.fires_at),
        None if spec.delay is None else repr(float(spec.delay)),
        *publish_times.parameters(),
        *columns.as_texts(spec),
    ]


def node(spec: NodeSpec, row: Row, using: str) -> Node:
    """The node of a signal that was written; the row is the child's, without its id."""
    workflow_id, seq, stage, status = (text or "" for text in row[:4])
    times: dict[str, Any] = {
        name: None if text is None else rows.moment(text)
        for name, text in zip(TIMES, row[4:], strict=True)
    }
    return rows.new_node(
        using,
        adding=False,
        id=spec.id,
        workflow_id=UUID(workflow_id),
        parent_id=UUID(workflow_id),
        awaited_by=UUID(workflow_id) if spec.counts else None,
        seq=int(seq),
        stage=int(stage),
        status=Status(status),
        **columns.of(spec),
        **times,
    )


def publications(written: Node) -> list[Publication]:
    """The message of a node that was just written, if it is due soon."""
    queued = [written] if written.status == Status.QUEUED else []
    return publications_due(queued, written.created_at)

"""Tables that have lived for a while: finished nodes, or timers that are not due."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.utils import timezone

ID = """(lpad(to_hex((extract(epoch from {at}) * 1000)::bigint), 12, '0') || '7'
 || substr(md5({n}::text), 1, 3) || '8' || substr(md5({n}::text), 4, 15))::uuid"""
# A year, and the newest last, so that ids and rows have the order that they have in production.
AT = "'{now}'::timestamptz - interval '366 days' + {w} * (interval '365 days' / {workflows})"
COLUMNS = """id, workflow_id, parent_id, seq, stage, barrier, task, name, mode, status, outcome,
    attempt, args, kwargs, options, metadata, created_at, started_at, finished_at, fires_at,
    publish_at, awaited_by, worker, next_seq, next_stage"""
WORKFLOWS = f"""
INSERT INTO backbeat_celery_workflow (id, name, subject, run, unfinished, paused_by, pause_reason,
    closed_by, close_reason, finished_at, created_at, metadata)
SELECT {ID.format(at="at", n="w")}, 'old', 'old ' || w, 1, NULL, '', '', '',
    '', at, at, '{{{{}}}}'
FROM (SELECT w, {AT.format(w="w", workflows="{workflows}", now="{now}")} AS at
      FROM generate_series(1, {{workflows}}) w) AS times
"""
NODES = f"""
INSERT INTO backbeat_celery_node ({COLUMNS})
SELECT CASE WHEN k = 0 THEN wid ELSE {ID.format(at="at", n="(w * 100::bigint + k)")} END, wid,
    CASE WHEN k > 0 THEN wid END, greatest(k - 1, 0), 0, false,
    CASE WHEN k > 0 THEN 'benchmarks.ours.tasks.nothing' ELSE '' END, 'old', 'non_blocking',
    'complete', 'succeeded', 1, '[]', '{{{{}}}}', '{{{{}}}}', '{{{{}}}}', at, at, at, NULL, NULL,
    NULL, 'w1@old', CASE WHEN k = 0 THEN 99 ELSE 0 END, 0
FROM (SELECT w, k, at, {ID.format(at="at", n="w")} AS wid
      FROM (SELECT w, {AT.format(w="w", workflows="{workflows}", now="{now}")} AS at
            FROM generate_series(1, {{workflows}}) w) AS times, generate_series(0, 99) k) AS rows
"""
# One in a hundred has a history, as if the others' had been purged.
HISTORY = """
INSERT INTO backbeat_celery_transition
    (node_id, from_status, to_status, at, attempt, actor, reason)
SELECT id, step.before, step.after, created_at, step.attempt, '', ''
FROM backbeat_celery_node, (VALUES ('', 'queued', 0), ('queued', 'running', 1),
    ('running', 'complete', 1)) AS step (before, after, attempt)
WHERE seq = 50
"""
ATTEMPTS = """
INSERT INTO backbeat_celery_attempt (node_id, number, worker, started_at, finished_at, outcome)
SELECT id, 1, worker, started_at, finished_at, 'succeeded'
FROM backbeat_celery_node WHERE seq = 50
"""
# Signals of one workflow, from ten minutes to thirty days ahead.
TIMERS = f"""
INSERT INTO backbeat_celery_node ({COLUMNS})
SELECT {ID.format(at="now() - interval '1 day'", n="n")}, %(workflow)s, %(workflow)s, n, 0,
    false, 'benchmarks.ours.tasks.nothing', 'timer', 'non_blocking', 'queued', '', 0, '[]',
    '{{}}', '{{}}', '{{}}', now(), NULL, NULL, due, due - interval '60 s', %(workflow)s, '', 0, 0
FROM (SELECT n, now() + interval '10 min' + n * (interval '30 days' / %(timers)s) AS due
      FROM generate_series(0, %(timers)s - 1) n) AS times
"""
TABLES = ("workflow", "node", "transition", "attempt")


def finished(nodes: int) -> None:
    """Fill the tables with that many finished nodes, a hundred a workflow."""
    workflows = max(1, nodes // 100)
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")  # no check of foreign keys
        cursor.execute("SET synchronous_commit = off")
        # One time for both, since the ids are made of times.
        values = {"workflows": workflows, "now": timezone.now().isoformat()}
        cursor.execute(WORKFLOWS.format(**values))
        cursor.execute(NODES.format(**values))
        cursor.execute(HISTORY)
        cursor.execute(ATTEMPTS)
        cursor.execute("RESET session_replication_role")
        cursor.execute("RESET synchronous_commit")
    settle()


def timers(workflow: Any, number: int) -> None:
    """Add that many timers to a workflow without signals."""
    values = {"workflow": workflow.pk, "timers": number}
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(TIMERS, values)
        cursor.execute(
            "UPDATE backbeat_celery_node SET next_seq = %(timers)s WHERE id = %(workflow)s", values
        )
        cursor.execute("RESET session_replication_role")
    settle()


def settle() -> None:
    """Do what autovacuum has done in tables that have lived for a while."""
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"VACUUM ANALYZE backbeat_celery_{table}")
        cursor.execute("CHECKPOINT")

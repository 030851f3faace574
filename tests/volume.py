"""A PostgreSQL full of workflows, and how long the admin's pages take on it.

    python -m tests.volume postgresql://user@host/postgres --workflows 1000000

makes a database of its own beside the one that is named, fills it (ten nodes a workflow),
prints the time of each page, and drops it again; `--keep` leaves it there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from typing import Any

from django.utils import timezone

DATABASE = "backbeat_volume"
DAYS = 90
ID = """(lpad(to_hex((extract(epoch from {at}) * 1000)::bigint), 12, '0') || '7'
 || substr(md5({n}::text), 1, 3) || '8' || substr(md5({n}::text), 4, 15))::uuid"""
# Newest last, so that ids, rows and times have the same order, as they have in production.
AT = f"%(now)s - (%(rows)s - w) * (interval '{DAYS} days' / %(rows)s)"
# One in ten is open. Of those one in fifty has a failed node, one in ten is paused.
WORKFLOWS = f"""
INSERT INTO backbeat_celery_workflow (id, name, subject, run, unfinished, paused_at, paused_by,
    pause_reason, closed_at, closed_by, close_reason, finished_at, created_at, metadata)
SELECT {ID.format(at="at", n="w")}, CASE WHEN w %% 1000 = 0 THEN 'rare' ELSE 'order' || w %% 7 END,
    'shop.camera:' || w, 1, CASE WHEN w %% 10 = 0 THEN true END,
    CASE WHEN w %% 100 = 0 THEN at END, '', '', NULL, '', '',
    CASE WHEN w %% 10 <> 0 THEN at + interval '1 min' END, at,
    CASE WHEN w %% 500 = 0 THEN jsonb_build_object('customer', w) ELSE '{{}}' END
FROM (SELECT w, {AT} AS at FROM generate_series(1, %(rows)s) w) times
"""
NODES = f"""
INSERT INTO backbeat_celery_node (id, workflow_id, parent_id, awaited_by, seq, stage, barrier,
    task, name, mode, status, outcome, attempt, args, kwargs, options, metadata, created_at,
    started_at, finished_at, fires_at, publish_at, worker, next_seq, next_stage)
SELECT CASE WHEN k = 0 THEN wid ELSE {ID.format(at="at", n="(w * 10 + k)")} END, wid,
    CASE WHEN k > 0 THEN wid END, CASE WHEN k > 0 AND is_open THEN wid END, greatest(k - 1, 0),
    greatest(k - 1, 0), false, 't', CASE WHEN k = 0 THEN 'order' ELSE 'shop.tasks.step' || k END,
    'blocking', status, CASE WHEN status = 'complete' THEN 'succeeded' ELSE '' END, 1, '[703]',
    '{{}}', '{{}}', '{{}}', at, at, CASE WHEN NOT is_open THEN at + interval '30 s' END, NULL,
    CASE WHEN status = 'queued' THEN now() END, 'w1@shop',
    CASE WHEN k = 0 THEN 9 ELSE 0 END, CASE WHEN k = 0 THEN 9 ELSE 0 END
FROM (
    SELECT *, CASE WHEN NOT is_open AND w %% 1000 = 1 AND k = 9 THEN 'canceled'
        WHEN NOT is_open THEN 'complete' WHEN k = 0 THEN 'waiting'
        WHEN w %% 500 = 0 AND k = 8 THEN 'failed' WHEN k = 8 THEN 'queued' ELSE 'ready' END status
    FROM (
        SELECT w, k, at, {ID.format(at="at", n="w")} wid, w %% 10 = 0 AND (k = 0 OR k > 7) is_open
        FROM (SELECT w, {AT} AS at FROM generate_series(1, %(rows)s) w) times,
            generate_series(0, 9) k
    ) places
) standing
"""
ATTEMPTS = """
INSERT INTO backbeat_celery_attempt (node_id, number, worker, started_at, finished_at, outcome)
SELECT id, 1, worker, started_at, finished_at,
    CASE WHEN seq = 5 AND random() < 0.02 THEN 'failed' ELSE 'succeeded' END
FROM backbeat_celery_node
WHERE finished_at > now() - interval '10 days' AND parent_id IS NOT NULL ORDER BY finished_at
"""
TABLES = ("backbeat_celery_workflow", "backbeat_celery_node", "backbeat_celery_attempt")
PAGES = {
    "overview": "",
    "workflows": "workflow/",
    "workflows, page 200": "workflow/?p=200",
    "workflows, open": "workflow/?state=open",
    "workflows, paused": "workflow/?state=paused",
    "workflows, with failures": "workflow/?failures=failed",
    "workflows, quiet for a week": "workflow/?stuck=7d",
    "workflows, a frequent name": "workflow/?name=order1",
    "workflows, a rare name": "workflow/?name=rare",
    "workflows, of today": "workflow/?created_at__gte={today}",
    "workflows, by subject": "workflow/?q=shop.camera%3A777",
    "workflows, by metadata": "workflow/?q=customer%3D5000",
    "workflows, by id": "workflow/?q={workflow}",
    "nodes": "node/",
    "nodes, canceled": "node/?status=canceled",
    "nodes, failed": "node/?status=failed",
    "nodes, of a workflow": "node/?workflow__id__exact={workflow}",
    "nodes, a handler": "node/?handler=shop.tasks.step8",
    "nodes, by subject": "node/?q=shop.camera%3A777",
    "tree": "workflow/{workflow}/change/",
    "tree, unchanged": "workflow/{workflow}/live/",
    "node": "node/{node}/change/",
}


def fill(connection: Any, workflows: int, *, fast: bool = False) -> None:
    """Insert that many workflows with ten nodes each. `fast` checks and indexes afterwards."""
    with connection.cursor() as cursor:
        later = _drop_indexes(cursor) if fast else []
        # One time for all, since the ids are made of times.
        values = {"rows": workflows, "now": timezone.now()}
        for statement in (WORKFLOWS, NODES, ATTEMPTS):
            cursor.execute(statement, values if "%(" in statement else None)
        for definition in later:
            cursor.execute(definition)
        for table in TABLES:
            # What autovacuum has done in a database that has lived for a while.
            vacuum = "ANALYZE" if connection.in_atomic_block else "VACUUM ANALYZE"
            cursor.execute(f"{vacuum} {table}")


def _drop_indexes(cursor: Any) -> list[str]:
    """Drop what makes inserts slow, but the primary keys; give what makes it again."""
    cursor.execute("SET maintenance_work_mem = '512MB'")
    cursor.execute("SET session_replication_role = replica")  # no check of foreign keys
    cursor.execute(
        "SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid::regclass::text = ANY(%s) AND contype = 'u'",
        [list(TABLES)],
    )
    later = []
    for table, name, definition in cursor.fetchall():
        cursor.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"')
        later.append(f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}')
    cursor.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = ANY(%s)"
        " AND indexname NOT LIKE '%%_pkey'",
        [list(TABLES)],
    )
    for name, definition in cursor.fetchall():
        cursor.execute(f'DROP INDEX "{name}"')
        later.append(definition)
    return later


def addresses() -> Iterator[tuple[str, str]]:
    """The pages that are measured, on rows in the middle of the table."""
    from backbeat_celery.models import Node, Workflow

    workflow = Workflow.objects.filter(unfinished=True).order_by("-pk")[5]
    node = Node.objects.filter(workflow=workflow.pk, seq=7).get()
    today = timezone.now().strftime("%Y-%m-%d")
    for name, address in PAGES.items():
        yield (
            name,
            "/admin/backbeat_celery/"
            + address.format(
                workflow=workflow.pk, node=node.pk, today=f"{today} 00:00:00%2B00:00"
            ),
        )


def measure(client: Any, address: str, times: int) -> tuple[list[float], int]:
    """How long a page takes in milliseconds, each time, and how many statements it sends."""
    from django.db import connection

    statements = []

    def count(execute: Any, sql: str, *rest: Any) -> Any:
        statements.append(sql)
        return execute(sql, *rest)

    with connection.execute_wrapper(count):
        response = client.get(address)
    assert response.status_code == 200, (address, response.status_code)
    took, etag = [], response.headers.get("ETag", "")
    for _ in range(times):
        start = time.perf_counter()
        client.get(address, headers={"If-None-Match": etag} if etag else {})
        took.append(1000 * (time.perf_counter() - start))
    return took, len(statements)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--workflows", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=9)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--filled", action="store_true", help="use what an earlier run has kept")
    options = parser.parse_args()
    os.environ["BACKBEAT_TEST_DB"] = "postgres"
    os.environ["BACKBEAT_TEST_DATABASE_URL"] = options.url
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django
    from django.db import connection

    django.setup()
    with connection.cursor() as cursor:
        if not options.filled:
            cursor.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
            cursor.execute(f"CREATE DATABASE {DATABASE}")
    connection.close()
    connection.settings_dict["NAME"] = DATABASE
    try:
        _run(connection, options)
    finally:
        connection.close()
        if not options.keep:
            connection.settings_dict["NAME"] = "postgres"
            with connection.cursor() as cursor:
                cursor.execute(f"DROP DATABASE {DATABASE}")


def _run(connection: Any, options: Any) -> None:
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.test import Client

    start = time.perf_counter()
    if not options.filled:
        call_command("migrate", verbosity=0)
        fill(connection, options.workflows, fast=True)
        print(f"filled in {time.perf_counter() - start:.0f} s")
    user, _ = get_user_model().objects.get_or_create(
        username="root", defaults={"is_superuser": True, "is_staff": True}
    )
    client = Client()
    client.force_login(user)
    for name, address in addresses():
        took, statements = measure(client, address, options.times)
        print(
            f"{name:30} {statistics.median(took):5.0f} ms (best {min(took):4.0f} ms)"
            f" {statements:3} statements",
            flush=True,
        )


if __name__ == "__main__":
    main()

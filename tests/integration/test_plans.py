"""PostgreSQL answers the engine's hot questions from their indexes."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backbeat_celery import signal
from backbeat_celery.engine.advance import try_complete
from backbeat_celery.models import Node
from tests import statements, workflows

pytestmark = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="plans of PostgreSQL; BACKBEAT_TEST_DB=postgres"
)

ROWS = 20_000
FILL = """
INSERT INTO backbeat_celery_node (
    id, workflow_id, parent_id, awaited_by, seq, stage, barrier, task, name, mode, status, args,
    kwargs, options, metadata, created_at, finished_at, publish_at, lease_expires_at,
    times_out_at, key
)
SELECT gen_random_uuid(), %(workflow)s, %(parent)s,
    CASE WHEN n %% 100 < 2 THEN %(parent)s END, n, 0, false, 't', 't', 'non_blocking',
    CASE WHEN n %% 100 = 0 THEN 'queued' WHEN n %% 100 = 1 THEN 'running' ELSE 'complete' END,
    '[]', '{}', '{}', '{}', now(),
    CASE WHEN n %% 100 > 1 THEN now() END,
    CASE WHEN n %% 100 = 0 THEN now() + n * interval '1 s' END,
    CASE WHEN n %% 100 = 1 THEN now() + n * interval '1 s' END,
    CASE WHEN n %% 100 = 1 THEN now() + n * interval '1 h' END,
    'k' || n
FROM generate_series(1, %(rows)s) n
"""

OTHER_WORKFLOWS = """
INSERT INTO backbeat_celery_workflow (id, name, subject, run, unfinished, created_at, metadata)
SELECT gen_random_uuid(), 't', n, 1, CASE WHEN n % 2 = 0 THEN TRUE END, now(), '{}'
FROM generate_series(1, 5000) n
"""


@pytest.fixture
def root(sim):
    """The root of a workflow with a long past and some nodes in flight."""
    node = signal(workflows.done.s(), subject="camera")
    with connection.cursor() as cursor:
        ids = {"workflow": node.workflow_id, "parent": node.workflow_id, "rows": ROWS}
        cursor.execute(FILL, ids)
        cursor.execute("ANALYZE backbeat_celery_node")
        cursor.execute("ANALYZE backbeat_celery_workflow")
    Node.objects.filter(pk=node.workflow_id).update(next_seq=ROWS + 1)
    return node.workflow.root


def children(root):
    return Node.objects.children_of(root.pk)


QUERIES = {
    "the join: is a child that counts open": (
        lambda root: Node.objects.awaited_by(root.pk).first_awaited(),
        "backbeat_awaited",
    ),
    "the stage: is a blocking child open": (
        lambda root: Node.objects.awaited_by(root.pk).blocking().first_awaited(),
        "backbeat_awaited",
    ),
    "the key of a signal": (lambda root: children(root).filter(key="k77"), "backbeat_node_key"),
    "the page of a tree": (
        lambda root: Node.objects.filter(parent__in=[root.pk]).order_by("parent", "seq")[:100],
        "backbeat_node_seq",
    ),
}


@pytest.mark.parametrize("question", QUERIES)
def test_the_question_is_answered_from_its_index(root, question):
    query, index = QUERIES[question]
    plan = query(root).explain()
    assert index in plan
    assert "Seq Scan on backbeat_celery_node" not in plan, plan


def late_sweep(sim):
    """A sweep that finds messages which nobody has taken for a while."""
    sim._now += timedelta(minutes=2)
    depths = []
    sim.depth = lambda queue: depths.append(1) or 1
    sim.sweep()
    assert depths


def plans_of(work):
    """The plans of all statements that `work` sends and that read the nodes."""
    with CaptureQueriesContext(connection) as queries:
        work()
    texts = [query["sql"] for query in queries.captured_queries]
    plans = {}
    with connection.cursor() as cursor:
        for text in texts:
            if text.startswith(("SELECT", "UPDATE", "WITH")) and "backbeat_celery_node" in text:
                cursor.execute("EXPLAIN " + text.replace("%", "%%"))
                plans[text] = "\n".join(line for (line,) in cursor.fetchall())
    assert plans
    return plans


@pytest.mark.parametrize(
    "work",
    [
        lambda sim, root: try_complete(root.pk, "default"),
        lambda sim, root: sim.step(),  # claim, record and advance
        lambda sim, root: sim.sweep(),
        lambda sim, root: list(Node.objects.for_task_id("an id")),
        lambda sim, root: late_sweep(sim),
        lambda sim, root: signal(workflows.done.s(), subject="camera"),
        lambda sim, root: signal(workflows.done.s(), subject="camera", key="new"),
        lambda sim, root: signal(workflows.done.s(), subject="lens", link=root.pk),
    ],
    ids=["look", "node", "sweep", "task id", "late sweep", "signal", "signal with key", "link"],
)
def test_nothing_reads_the_whole_table(sim, root, work):
    for text, plan in plans_of(lambda: work(sim, root)).items():
        assert "Seq Scan on backbeat_celery_node" not in plan, f"{text}\n{plan}"


FORGET = """
DELETE FROM pg_statistic WHERE starelid IN (
    SELECT oid FROM pg_class WHERE relname LIKE 'backbeat_celery_%'
)
"""
NEVER_COUNTED = """
UPDATE pg_class SET relpages = 0, reltuples = -1
WHERE relname LIKE 'backbeat_celery_%' AND relkind = 'r'
"""


@pytest.fixture(params=["analyzed", "never analyzed", "empty"])
def statistics(request, root):
    """What the planner knows: all, or nothing, as on the first day of an installation."""
    with connection.cursor() as cursor:
        cursor.execute(OTHER_WORKFLOWS)
        cursor.execute("ANALYZE backbeat_celery_workflow")
        if request.param != "analyzed":
            cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
            if not cursor.fetchone()[0]:
                pytest.skip("only a superuser of the server may forget its statistics")
            if request.param == "empty":
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
                cursor.execute("TRUNCATE backbeat_celery_workflow, backbeat_celery_node CASCADE")
            cursor.execute(FORGET)
            cursor.execute(NEVER_COUNTED)
    return request.param


@contextmanager
def prepared(name):
    """Prepare a statement as `asked`, planned once for all parameters."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        cursor.execute(f"PREPARE asked AS {statements.BY_NAME[name].sql().decode()}")
        try:
            yield cursor
        finally:
            cursor.execute("DEALLOCATE asked")


@statements.NEEDED
@pytest.mark.parametrize("name", statements.BY_NAME)
def test_no_prepared_statement_reads_the_whole_table(statistics, name):
    """The plan that a server keeps for all parameters, once it has seen a few of them.

    What is sent for a single node may be planned while the tables have but a few rows, and
    then be used for many until they are analyzed.
    """
    if statistics == "empty" and name in statements.FOR_MANY:
        pytest.skip("planned when there are many nodes")
    with prepared(name) as cursor:
        cursor.execute(
            "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = 'asked'"
        )
        values = ", ".join(["NULL"] * cursor.fetchone()[0])
        cursor.execute(f"EXPLAIN EXECUTE asked ({values})")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    for table in ("node", "workflow", "transition", "attempt", "link"):
        assert f"Seq Scan on backbeat_celery_{table}" not in plan, plan
    # A bitmap is of all entries that fit, be they a hundred thousand children of one parent.
    assert "Bitmap Index Scan on backbeat_awaited" not in plan, plan
    # Its entries are those of all workflows of a name, of which there may be a million.
    assert "backbeat_workflow_name" not in plan, plan


@statements.NEEDED
@pytest.mark.parametrize("is_analyzed", [True, False])
def test_a_look_does_not_read_all_children_before_a_barrier(root, is_analyzed):
    """Neither those that are open, nor the index entries that those which ended have left."""
    children = Node.objects.filter(parent=root.pk)
    with connection.cursor() as cursor:
        children.update(awaited_by=root.pk, finished_at=None)
        children.filter(seq__lte=ROWS / 2).update(awaited_by=None)
        Node.objects.filter(pk=root.pk).update(next_barrier=ROWS + 1)
        if is_analyzed:
            cursor.execute("ANALYZE backbeat_celery_node")
        else:
            cursor.execute(FORGET)
            cursor.execute(NEVER_COUNTED)
    with prepared("settled") as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE asked ('{root.pk}')")
        (plan,) = cursor.fetchone()
    assert plan[0]["Plan"]["Shared Hit Blocks"] < 50, plan

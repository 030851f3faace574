"""PostgreSQL answers the engine's hot questions from their indexes."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backbeat_celery import signal
from backbeat_celery.engine.advance import look
from backbeat_celery.models import Node
from tests import workflows

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
        lambda root: Node.objects.awaited_by(root.pk)[:1],
        "backbeat_awaited",
    ),
    "the stage: is a blocking child open": (
        lambda root: Node.objects.awaited_by(root.pk).blocking()[:1],
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


def plans_of(work):
    """The plans of all statements that `work` sends and that read the nodes."""
    with CaptureQueriesContext(connection) as queries:
        work()
    texts = [query["sql"] for query in queries.captured_queries]
    plans = {}
    with connection.cursor() as cursor:
        for text in texts:
            if text.startswith(("SELECT", "UPDATE")) and "backbeat_celery_node" in text:
                cursor.execute("EXPLAIN " + text.replace("%", "%%"))
                plans[text] = "\n".join(line for (line,) in cursor.fetchall())
    assert plans
    return plans


@pytest.mark.parametrize(
    "work",
    [
        lambda sim, root: look(root.pk, "default"),
        lambda sim, root: sim.step(),  # claim, record and advance
        lambda sim, root: sim.sweep(),
        lambda sim, root: signal(workflows.done.s(), subject="camera", key="new"),
        lambda sim, root: signal(workflows.done.s(), subject="lens", link=root.pk),
    ],
    ids=["look", "node", "sweep", "signal", "link"],
)
def test_nothing_reads_the_whole_table(sim, root, work):
    for text, plan in plans_of(lambda: work(sim, root)).items():
        assert "Seq Scan on backbeat_celery_node" not in plan, f"{text}\n{plan}"

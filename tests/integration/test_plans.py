"""PostgreSQL answers the engine's hot questions from their indexes."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.models import Q
from django.db.models.functions import Now

from backbeat_celery import signal
from backbeat_celery.engine.sweep import Sweep
from backbeat_celery.models import Node, Workflow
from tests import workflows

pytestmark = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="plans of PostgreSQL; BACKBEAT_TEST_DB=postgres"
)

ROWS = 20_000
FILL = """
INSERT INTO backbeat_celery_node (
    id, workflow_id, parent_id, seq, stage, barrier, task, name, mode, status, args, kwargs,
    options, metadata, created_at, publish_at, lease_expires_at, times_out_at, key
)
SELECT gen_random_uuid(), %(workflow)s, %(parent)s, n, 0, false, 't', 't', 'non_blocking',
    CASE WHEN n %% 100 = 0 THEN 'queued' WHEN n %% 100 = 1 THEN 'running' ELSE 'complete' END,
    '[]', '{}', '{}', '{}', now(),
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
    return node.workflow.root


def children(root):
    return Node.objects.children_of(root.pk)


def paused():
    return Workflow.objects.filter(paused_at__isnull=False).values("pk")


QUERIES = {
    "the join: is a child that counts open": (
        lambda root: children(root).unfinished().counting()[:1],
        "backbeat_open",
    ),
    "the stage: is a blocking child open": (
        lambda root: children(root).unfinished().blocking()[:1],
        "backbeat_open",
    ),
    "the sweep: what is due for a message": (
        lambda root: Node.objects.filter(publish_at__lte=Now()).claimable(),
        "backbeat_due",
    ),
    "the sweep: whose lease has expired": (
        lambda root: Node.objects.filter(status="running", lease_expires_at__lte=Now()),
        "backbeat_lease",
    ),
    "the sweep: whose time is over": (
        lambda root: Node.objects.filter(status="running", times_out_at__lte=Now()),
        "backbeat_timeout",
    ),
    "the sweep: what is paused": (lambda root: Node.objects.filter(status="paused"), "backbeat_"),
    "the sweep: whose barrier is closed": (
        lambda root: Node.objects.filter(status="waiting", next_barrier__isnull=False),
        "backbeat_",
    ),
    "the key of a signal": (lambda root: children(root).filter(key="k77"), "backbeat_node_key"),
    "the page of a tree": (
        lambda root: Node.objects.filter(parent__in=[root.pk]).order_by("parent", "seq")[:100],
        "backbeat_node_seq",
    ),
    "the claim": (
        lambda root: Node.objects.filter(Q(pk=root.pk), status="queued"),
        "backbeat_celery_node_pkey",
    ),
    "the run of a subject": (
        lambda root: Workflow.objects.filter(name="a", subject="b", unfinished=True),
        "",
    ),
}


@pytest.mark.parametrize("question", QUERIES)
def test_the_question_is_answered_from_its_index(root, question):
    query, index = QUERIES[question]
    plan = query(root).explain()
    assert index in plan
    assert "Seq Scan on backbeat_celery_node" not in plan, plan


@pytest.mark.parametrize("step", ["_expired", "_overdue", "_unknown", "_paused_in_vain"])
def test_the_sweep_never_reads_the_whole_table(root, step):
    rows = getattr(Sweep("default"), step)()
    plan = rows.explain()
    assert "Seq Scan on backbeat_celery_node" not in plan, plan


def test_the_look_at_a_parent_never_reads_its_children(root):
    plan = Node.objects.filter(pk=root.pk).with_open_edges().explain(analyze=True)
    assert "Seq Scan on backbeat_celery_node" not in plan, plan
    assert "backbeat_open" in plan

"""Partitioned tables: trees run as before, uniqueness holds, and a purge detaches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from backbeat_celery import signal
from backbeat_celery.inspection.doctor import examine
from backbeat_celery.models import Attempt, Node, Transition, Workflow
from tests import partitions, services, workflows

pytestmark = [
    pytest.mark.skipif(services.database_kind() != "postgres", reason="partitions of PostgreSQL"),
    pytest.mark.skipif(partitions.wanted(), reason="the tables of this run are partitioned"),
]


@pytest.fixture
def tables(db):
    """Partitioned tables, until the test's transaction is rolled back."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    return partitions.partition(connection)


@pytest.fixture
def finished(tables, sim, run_tree):
    """A finished workflow with children."""
    node = run_tree({"mode": "non_blocking"}, {"mode": "non_blocking"}, {"barrier": True})
    node.workflow.close()
    sim.run()
    node.workflow.refresh_from_db()
    assert node.workflow.finished_at
    return node


def detach(now: datetime, before: datetime) -> str:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT backbeat_detach_partition('h6', %s, %s, %s)",
            [now, now + timedelta(hours=1), before],
        )
        (words,) = cursor.fetchone()
        return words


def test_trees_run_and_the_doctor_finds_nothing(finished):
    assert [step.to_status for step in finished.history][-1] == "complete"
    assert not examine(wait=0).findings
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM backbeat_celery_node_h6")
        assert cursor.fetchone() == (Node.objects.count(),)


def test_two_siblings_cannot_have_one_place(finished):
    child = finished.children.first()
    with pytest.raises(IntegrityError), transaction.atomic():
        Node.objects.filter(pk=child.pk).update(seq=finished.children.last().seq)


def test_a_key_is_a_childs_alone(tables, sim):
    options = {"subject": "camera", "key": "once"}
    assert signal(workflows.tree.s({}), **options) == signal(workflows.tree.s({}), **options)


def test_a_detached_span_takes_its_workflows_and_their_history(tables, finished):
    words = detach(tables, datetime.now(UTC) + timedelta(days=1))
    assert words == "detached the nodes and their history"
    for model in (Workflow, Node, Transition, Attempt):
        assert not model.objects.exists()


def test_an_unfinished_workflow_holds_its_span(tables, finished):
    Workflow.objects.for_subject("lens", "w")
    with pytest.raises(DatabaseError, match="1 workflows"):
        detach(tables, datetime.now(UTC) + timedelta(days=1))
    assert Node.objects.filter(pk=finished.pk).exists()


def test_what_finished_after_the_retention_holds_its_span(tables, finished):
    with pytest.raises(DatabaseError, match="1 workflows"):
        detach(tables, datetime.now(UTC) - timedelta(days=1))

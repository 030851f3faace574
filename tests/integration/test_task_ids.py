"""From a log line of Celery to the node: every attempt keeps the id of its message."""

from __future__ import annotations

import json
from io import StringIO
from uuid import UUID, uuid4

import pytest
from celery import signature
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from backbeat_celery import current_node, signal
from backbeat_celery.models import Node
from tests import workflows


@pytest.fixture
def seen(script):
    """The Celery ids that a scripted handler is called with; its first two attempts fail."""
    ids = []

    def work(task):
        ids.append(task.request.id)
        row = Node.objects.get(pk=current_node().id)
        assert [attempt.task_id for attempt in row.attempts] == ids
        assert [found.pk for found in Node.objects.for_task_id(task.request.id)] == [row.pk]
        if len(ids) < 3:
            raise RuntimeError("again")

    script(work)
    return ids


def ids_of(node):
    node.refresh_from_db()
    return [attempt.task_id for attempt in node.attempts]


@pytest.mark.parametrize("task", [workflows.scripted, workflows.scripted_atomic])
def test_each_attempt_has_the_id_that_its_handler_saw(sim, seen, task):
    node = signal(task.s(), subject="camera")
    sim.advance(hours=1)
    assert len(set(seen)) == 3
    assert ids_of(node) == seen
    for task_id in seen:
        assert Node.objects.for_task_id(task_id).get() == node
    node.refresh_from_db()
    assert (node.status, node.task_id) == ("complete", None)
    assert not Node.objects.for_task_id(str(uuid4())).exists()


@pytest.mark.parametrize("point", ["before_handler", "in_handler"])
def test_a_lost_attempt_keeps_its_id(sim, point):
    sim.kill_next(point)
    node = signal(workflows.done.s(), subject="camera")
    sim.run()
    (lost,) = ids_of(node)
    sim.advance(minutes=5)
    assert ids_of(node)[0] == lost
    assert [attempt.outcome for attempt in node.attempts] == ["lost", "succeeded"]
    assert Node.objects.for_task_id(lost).get() == node


def test_a_canceled_attempt_keeps_its_id(sim, script):
    ids = []

    def work(task):
        ids.append(task.request.id)
        Node.objects.get(pk=current_node().id).cancel()

    script(work)
    node = signal(workflows.scripted.s(), subject="camera")
    sim.run()
    assert [(one.outcome, one.task_id) for one in node.attempts] == [("canceled", ids[0])]
    assert Node.objects.for_task_id(ids[0]).get() == node


def test_an_attempt_that_awaits_its_outcome_is_found_before_and_after(sim, script):
    node = signal(workflows.awaiting.s(), subject="camera")
    sim.run()
    (task_id,) = ids_of(node)
    assert Node.objects.for_task_id(task_id).get() == node
    Node.objects.get(pk=node.pk).complete(5)
    assert ids_of(node) == [task_id]
    assert Node.objects.for_task_id(task_id).get() == node


def test_the_nodes_of_a_bundle_share_the_id_of_their_message(sim, script):
    script(lambda task, number: task.request.id, "bundled")
    script(
        lambda task: (
            current_node().spawn_many(
                [workflows.bundled.s(n) for n in range(5)], mode="non_blocking"
            )
            and None
        )
    )
    signal(workflows.scripted.s(), subject="camera")
    sim.run()
    nodes = list(Node.objects.filter(task=workflows.bundled.name))
    assert {node.result for node in nodes} == {id for node in nodes for id in ids_of(node)}
    (task_id,) = {node.result for node in nodes}
    assert set(Node.objects.for_task_id(task_id)) == set(nodes)


def test_a_remote_attempt_has_the_id_of_the_call_on_the_other_side(sim, monkeypatch):
    calls = []
    monkeypatch.setattr(sim, "hand_over", lambda task, **message: calls.append(message))
    node = signal(signature("other.add", args=[2, 3], queue="other"), subject="camera")
    sim.run()
    assert ids_of(node) == [calls[0]["task_id"]]
    assert Node.objects.for_task_id(calls[0]["task_id"]).get() == node


@pytest.mark.exact
def test_finding_a_node_takes_five_probes(sim):
    nodes = [signal(workflows.done.s(), subject=f"{n}") for n in range(5)]
    sim.run()
    (task_id,) = ids_of(nodes[3])
    with CaptureQueriesContext(connection) as captured:
        assert Node.objects.for_task_id(task_id).get() == nodes[3]
    assert len(captured) == 5


@pytest.fixture
def found(sim):
    """One of two nodes, and the Celery id of its attempt."""
    nodes = [signal(workflows.done.s(), subject=subject) for subject in ("camera", "lens")]
    sim.run()
    return nodes[0], ids_of(nodes[0])[0]


@pytest.mark.parametrize("page", ["node", "workflow"])
def test_the_search_of_the_admin_knows_it(found, admin_client, page):
    node, task_id = found
    url = reverse(f"admin:backbeat_celery_{page}_changelist")
    for term in (task_id, task_id.upper(), f" {task_id} "):
        response = admin_client.get(url, {"q": term})
        html = response.content.decode()
        assert response.status_code == 200
        assert "camera" in html
        assert "lens" not in html
    nothing = admin_client.get(url, {"q": str(uuid4())}).content.decode()
    assert "camera" not in nothing


def test_the_page_of_a_node_shows_it(found, admin_client):
    node, task_id = found
    page = admin_client.get(reverse("admin:backbeat_celery_node_change", args=[node.pk]))
    assert f"<code>{task_id}</code>" in page.content.decode()


def test_the_command_takes_it(found):
    node, task_id = found
    out = StringIO()
    call_command("backbeat_tree", task_id, "--json", stdout=out)
    assert [UUID(row["id"]) for row in json.loads(out.getvalue())] == [node.pk]
    with pytest.raises(CommandError, match="no attempt"):
        call_command("backbeat_tree", str(uuid4()), stdout=out)

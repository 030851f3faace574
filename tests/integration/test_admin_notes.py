"""The note beside a node that waits, on the page of its tree."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.urls import reverse
from django.utils.html import strip_tags

from backbeat_celery import current_node, signal
from backbeat_celery.models import Node
from backbeat_celery.states import Status
from tests import workflows
from tests.stages import staged


def text_of(client, node):
    """What the page of the tree says, without markup."""
    url = reverse("admin:backbeat_celery_workflow_change", args=[node.workflow_id])
    return re.sub(r"\s+", " ", unescape(strip_tags(client.get(url).content.decode())))


@pytest.mark.parametrize(
    ("status", "note"),
    [
        (Status.PENDING, "starts when its parent is accepted"),
        (Status.READY, "waits for "),
        (Status.QUEUED, "due in 5 h"),
        (Status.RETRYING, "retry 1"),
        (Status.PAUSED, "the workflow is paused"),
        (Status.FAILED, "waits for an operator"),
    ],
)
def test_a_node_says_what_it_waits_for(sim, admin_client, status, note):
    assert note in text_of(admin_client, staged(sim, status))


def test_a_node_that_is_due_waits_for_a_worker(sim, admin_client):
    assert "waits for a worker" in text_of(
        admin_client, signal(workflows.done.s(), subject="camera")
    )


def test_a_retry_without_limit_is_counted_alone(sim, admin_client):
    node = signal(workflows.stubborn.s(), subject="camera")
    sim.step()
    text = text_of(admin_client, node)

    assert "retry 1 in " in text
    assert "retry 1/" not in text


def test_a_retry_with_a_limit_names_it(sim, admin_client):
    node = signal(workflows.flaky.s(9), subject="camera")
    sim.step()

    assert "retry 1/2 in " in text_of(admin_client, node)


def test_a_barrier_names_the_first_sibling_that_it_waits_for(sim, admin_client, script):
    def work(task):
        current_node().spawn(workflows.done.s(), mode="non_blocking", delay=3600)
        current_node().spawn(workflows.flaky.s(0), barrier=True)

    script(work)
    signal(workflows.scripted.s(), subject="camera")
    sim.run()
    barrier = Node.objects.get(barrier=True)

    assert barrier.status == "ready"
    assert "waits for done" in text_of(admin_client, barrier)

"""The pages of the admin show what there is."""

from __future__ import annotations

import pytest
from django.urls import reverse


@pytest.fixture
def client(admin_client):
    return admin_client


def tree_url(workflow):
    return reverse("admin:backbeat_celery_workflow_change", args=[workflow.pk])


@pytest.fixture
def node(run_tree):
    return run_tree({"shape": {"spawn": [{}, {"mode": "non_blocking"}]}}, {"barrier": True})


@pytest.mark.parametrize("page", ["workflow_changelist", "node_changelist"])
def test_list(client, node, page):
    response = client.get(reverse(f"admin:backbeat_celery_{page}"))
    assert response.status_code == 200
    assert "tests.workflows.tree" in response.content.decode()


def test_tree(client, node):
    html = client.get(tree_url(node.workflow)).content.decode()
    assert html.count('role="row"') == 6


def test_node(client, node):
    html = client.get(
        reverse("admin:backbeat_celery_node_change", args=[node.pk])
    ).content.decode()
    assert "tests.workflows.tree" in html


def test_overview(client, node):
    html = client.get("/admin/backbeat_celery/").content.decode()
    assert "Open nodes" in html

"""Trees of any depth: nothing recurses, and what is read takes few statements."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command

from backbeat_celery.inspection.nested_json import DEEPEST_INDENT, nested_json
from backbeat_celery.inspection.tree import draw, tree
from backbeat_celery.inspection.tree_reader import TreeNode
from backbeat_celery.models import Node, Workflow
from backbeat_celery.retention.deletion import BATCH
from backbeat_celery.retention.purge import purge
from tests import workflows
from tests.counting import Statements

pytestmark = pytest.mark.exact
DEEP = 1200


@pytest.fixture
def finished_tree(sim):
    """A finished workflow whose nodes are each the only child of the one above."""

    def plant(depth):
        at = sim.now
        workflow = Workflow.objects.create(
            **{"name": "deep", "subject": str(depth), "run": 1, "created_at": at},
            **{"closed_at": at, "finished_at": at, "unfinished": None},
        )
        ended = {"status": "complete", "created_at": at, "finished_at": at, "stage": 0, "seq": 0}
        chain = [Node(id=workflow.pk, workflow=workflow, next_seq=1, **ended)]
        for n in range(depth):
            above = chain[-1].pk
            task = {"task": workflows.done.name, "name": f"level {n}", "mode": "blocking"}
            has_child = n < depth - 1
            node = Node(workflow=workflow, parent_id=above, next_seq=has_child, **task, **ended)
            chain.append(node)
        Node.objects.bulk_create(chain, batch_size=500)
        return chain

    return plant


@pytest.fixture
def failed_below(finished_tree):
    """A tree like that whose lowest node has failed; all others wait for it."""

    def plant(depth):
        *waiting, failed = chain = finished_tree(depth)
        for node in chain:
            node.finished_at, node.awaited_by = None, node.parent_id
            node.status, node.attempt = "waiting", 1
        failed.status, failed.error = "failed", "ValueError()"
        fields = ["finished_at", "awaited_by", "status", "attempt", "error"]
        Node.objects.bulk_update(chain, fields, batch_size=100)
        Workflow.objects.filter(pk=waiting[0].pk).update(finished_at=None, unfinished=True)
        return failed

    return plant


def test_json_of_a_deep_tree_is_whole():
    top = branch = TreeNode(Node(name="level 0", status="complete", mode="blocking"))
    for n in range(1, DEEP):
        branch.children.append(
            TreeNode(Node(name=f"level {n}", status="complete", mode="blocking"))
        )
        branch = branch.children[0]
    text = top.as_json()
    assert text.count('"children": [') == DEEP
    assert f"level {DEEP - 1}" in text
    # In proportion: no line is indented by its depth.
    assert max(map(len, text.splitlines())) < 400
    assert len(draw(top, top.node).splitlines()) == DEEP
    assert repr(top)
    assert top != TreeNode(top.node, top.children)


def test_the_command_writes_what_python_would(finished_tree):
    chain = finished_tree(5)
    out = StringIO()
    call_command("backbeat_tree", str(chain[0].pk), "--json", stdout=out)
    (data,) = json.loads(out.getvalue())
    assert out.getvalue().strip() == json.dumps([data], indent=2, ensure_ascii=False)
    assert data["root"] == tree(chain[0]).as_dict()


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        None,
        7.5,
        'ü"\\',
        [[], {}, [1, [2, {"a": []}]], "x"],
        {"a": 1, "b": {"c": [True, None, {"ö": "\n"}]}, "d": [], "e": {}},
    ],
)
def test_nested_json_is_what_python_writes(data):
    assert nested_json(data) == json.dumps(data, indent=2, ensure_ascii=False)


def test_deeply_nested_data_is_json():
    data: list = []
    for _ in range(5000):
        data = [data]
    text = nested_json(data)
    assert text.count("[") == text.count("]") == 5001
    assert max(map(len, text.splitlines())) <= 2 * DEEPEST_INDENT + 2


@pytest.mark.parametrize("depth", [3, 60, 600])
def test_a_page_of_a_deep_node_takes_the_same_statements(finished_tree, admin_client, depth):
    node = finished_tree(depth)[-1]
    address = f"/admin/backbeat_celery/node/{node.pk}/change/"
    admin_client.get(address)
    with Statements() as statements:
        html = admin_client.get(address).content.decode()
    assert len(statements.texts) <= 20, str(statements)
    if depth == 3:
        assert "levels" not in html
        assert html.count("level 0") > 0
    if depth == 60:
        assert "… 36 levels …" in html
        assert ">level 0<" in html
        assert ">level 58<" in html
        assert ">level 30<" not in html
    if depth == 600:
        assert "more than 479 levels" in html


@pytest.mark.parametrize("depth", [3, 60])
@pytest.mark.parametrize(
    "page",
    [
        "node/{0.pk}/change/",
        "node/{0.pk}/act/resolve/",
        "node/{0.pk}/act/cancel/",
        "workflow/{0.workflow_id}/change/",
        "workflow/{0.workflow_id}/live/",
    ],
)
def test_pages_about_a_deep_failure_take_few_statements(failed_below, admin_client, page, depth):
    address = "/admin/backbeat_celery/" + page.format(failed_below(depth))
    admin_client.get(address)
    with Statements() as statements:
        html = admin_client.get(address).content.decode()
    assert len(statements.texts) <= 40, str(statements)
    if "/act/" in page:
        assert f"{min(depth, 50)} nodes will be complete" in html


def test_a_node_is_picked_out_of_a_deep_tree_in_few_statements(failed_below):
    def cost(depth):
        failed = failed_below(depth)
        with Statements() as statements:
            branch = tree(failed.workflow, statuses=["failed"])
        found = [branch.node.pk for branch in branch.walk()]
        assert len(found) == depth + 1 and found[-1] == failed.pk
        return len(statements.texts)

    assert cost(3) == cost(60)


def test_a_deep_tree_is_purged_with_one_statement_a_level(sim, finished_tree):
    def cost(depth):
        chain = finished_tree(depth)
        sim._now += timedelta(days=100)
        with Statements() as statements:
            assert purge().nodes == depth + 1
        assert not Node.objects.filter(pk__in=[row.pk for row in chain]).exists()
        return len(statements.texts)

    few, many = cost(10), cost(50)
    assert many - few <= 40


def test_a_purge_of_a_deep_tree_keeps_what_stands_above_something_kept(sim, finished_tree):
    chain = finished_tree(30)
    sim._now += timedelta(days=100)
    late = chain[10]
    Node.objects.filter(pk=late.pk).update(finished_at=sim.now)
    assert not purge()
    # Even if it were not seen before its page is deleted.
    from backbeat_celery.retention import deletion
    from backbeat_celery.retention.purge import _Purge

    found = _Purge("default", 1, BATCH, dry_run=False, progress=None)
    for page in deletion.subtree_pages([chain[0].pk], "default"):
        found._remove_page(page)
    left = set(Node.objects.filter(workflow=chain[0].workflow).values_list("pk", flat=True))
    assert left == {row.pk for row in chain[:11]}


def test_deleting_a_deep_workflow_deletes_it(finished_tree):
    chain = finished_tree(30)
    chain[0].workflow.delete()
    assert not Node.objects.filter(workflow_id=chain[0].workflow_id).exists()

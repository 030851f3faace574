"""A project that narrows `get_queryset` narrows every page, count, link and action."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from backbeat_celery import current_node, node_task, signal
from backbeat_celery.admin import NodeAdmin, WorkflowAdmin
from backbeat_celery.admin.subject import workflows_of
from backbeat_celery.models import Node, Workflow

CANARY = "canary"
BASE = "/admin/backbeat_celery"


@node_task(name="tests.canary", max_retries=0)
def canary() -> None:
    raise RuntimeError("canary error")


@node_task(name="tests.mine", max_retries=0)
def mine(hidden: bool = False) -> None:
    if hidden:
        current_node().spawn(canary.s(), mode="non_blocking")
    current_node().spawn(broken.s())


@node_task(name="tests.broken", max_retries=0)
def broken() -> None:
    raise RuntimeError("an error of mine")


class Mine(WorkflowAdmin):
    """Shows the workflows of one team."""

    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).filter(subject__startswith="mine")


class MyNodes(NodeAdmin):
    """Shows some nodes."""

    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).exclude(name="tests.canary")


class MineOneByOne(WorkflowAdmin):
    """Asks for each workflow, as some packages for permissions do."""

    def has_view_permission(self, request: Any, obj: Any = None) -> bool:
        return obj is None or obj.subject.startswith("mine")


class MyNodesOneByOne(NodeAdmin):
    """Asks for each node."""

    def has_view_permission(self, request: Any, obj: Any = None) -> bool:
        return obj is None or obj.name != "tests.canary"


@pytest.fixture
def narrow(monkeypatch):
    """Take classes of the project's in place of ours, as registering them does."""

    def take(*classes: Any) -> None:
        for cls in classes:
            model = Workflow if issubclass(cls, WorkflowAdmin) else Node
            monkeypatch.setattr(admin.site._registry[model], "__class__", cls)

    return take


@pytest.fixture
def two(sim):
    """A workflow of mine that waits for one of theirs; something has failed in both."""
    here = signal(mine.s(), subject="mine 1")
    sim.run()
    there = signal(
        canary.s(), subject="canary", name="canary", link=here, metadata={"team": "canary"}
    )
    sim.run()
    here.refresh_from_db()
    there.refresh_from_db()
    assert (here.status, there.status) == ("waiting", "failed")
    return here, there


def pages(node: Node) -> list[str]:
    return [
        f"{BASE}/",
        f"{BASE}/workflow/",
        f"{BASE}/workflow/?failures=failed",
        f"{BASE}/workflow/{node.workflow_id}/change/",
        f"{BASE}/workflow/{node.workflow_id}/change/?top={node.pk}",
        f"{BASE}/workflow/{node.workflow_id}/live/",
        f"{BASE}/workflow/{node.workflow_id}/act/cancel/",
        f"{BASE}/node/",
        f"{BASE}/node/?status=failed",
        f"{BASE}/node/{node.pk}/change/",
        f"{BASE}/node/{node.pk}/act/cancel/",
    ]


def test_no_page_names_what_is_not_shown(two, narrow, admin_client):
    here, there = two
    with_all = "".join(admin_client.get(url).content.decode() for url in pages(here))
    assert CANARY in with_all
    narrow(Mine)
    for url in pages(here):
        response = admin_client.get(url)
        assert response.status_code == 200, url
        assert CANARY not in response.content.decode(), url
    page = admin_client.get(f"{BASE}/node/{here.pk}/change/").content.decode()
    assert "a signal of another workflow that is not shown to you" in page


def test_counts_are_of_what_is_shown(two, narrow, admin_client, rf, admin_user):
    narrow(Mine)
    html = admin_client.get(f"{BASE}/").content.decode()
    assert '?status=failed"><span class="bb-number">1</span>' in html
    assert html.count("tests.broken") and "tests.canary" not in html
    request = rf.get("/")
    request.user = admin_user
    visibility = admin.site._registry[Workflow].visibility(request)
    shown = workflows_of("canary", visibility), workflows_of("mine 1", visibility)
    assert [len(lines) for lines in shown] == [0, 1]


@pytest.mark.parametrize("narrowed", [(Mine,), (MyNodes,), (Mine, MyNodes)])
def test_what_is_not_shown_cannot_be_opened_or_acted_on(two, narrow, admin_client, narrowed):
    there = two[1]
    narrow(*narrowed)
    paths = [f"{BASE}/node/{there.pk}/{page}/" for page in ("change", "history", "act/retry")]
    if Mine in narrowed:
        workflow = f"{BASE}/workflow/{there.workflow_id}"
        paths += [f"{workflow}/{page}/" for page in ("change", "history", "act/pause", "live")]
    for path in paths:
        sent = admin_client.get(path), admin_client.post(path, {"post": "yes", "reason": "x"})
        assert {response.status_code for response in sent} <= {302, 404, 405}, path
        assert all(CANARY not in response.content.decode() for response in sent)
    chosen = {"action": "retry", "_selected_action": [there.pk], "post": "yes", "reason": "x"}
    admin_client.post(f"{BASE}/node/", chosen)
    there.refresh_from_db()
    assert there.status == "failed"


def test_searches_find_what_is_shown(two, narrow, admin_client):
    here, there = two
    narrow(Mine)
    for term in ("canary", "team=canary", str(there.pk), str(there.workflow_id)):
        for model in ("workflow", "node"):
            found = admin_client.get(f"{BASE}/{model}/", {"q": term}).context["cl"].result_list
            assert found == [], (model, term)
    found = admin_client.get(f"{BASE}/workflow/", {"q": "mine"}).context["cl"].result_list
    assert [workflow.pk for workflow in found] == [here.workflow_id]


def test_nodes_that_are_not_shown_are_not_in_the_tree(sim, narrow, admin_client):
    node = signal(mine.s(hidden=True), subject="mine 1")
    sim.run()
    narrow(MyNodes)
    for url in pages(node):
        assert "tests.canary" not in admin_client.get(url).content.decode(), url
    tree = f"{BASE}/workflow/{node.workflow_id}/change/"
    assert admin_client.get(tree).context["summary"].total == 2
    assert "an error of mine" in admin_client.get(tree).content.decode()


def test_a_workflow_is_not_found_by_a_node_in_it_that_is_not_shown(sim, narrow, admin_client):
    node = signal(mine.s(hidden=True), subject="mine 1")
    sim.run()
    found = {name: pk for name, pk in Node.objects.values_list("name", "pk") if name}
    narrow(MyNodes)
    for name, is_found in (("tests.canary", False), ("tests.broken", True)):
        response = admin_client.get(f"{BASE}/workflow/", {"q": str(found[name])})
        assert (node.workflow in response.context["cl"].result_list) == is_found, name


def test_a_permission_for_single_objects_is_asked_on_their_pages(two, narrow, admin_client):
    here, there = two
    narrow(MineOneByOne, MyNodesOneByOne)
    for node, status in ((here, 200), (there, 403)):
        workflow = f"{BASE}/workflow/{node.workflow_id}"
        paths = [f"{workflow}/{page}/" for page in ("change", "history", "live", "act/cancel")]
        paths += [f"{BASE}/node/{node.pk}/{page}/" for page in ("change", "history", "act/cancel")]
        for path in paths:
            assert admin_client.get(path).status_code == status, path
    answer = {"post": "yes", "reason": "x"}
    assert admin_client.post(f"{BASE}/node/{there.pk}/act/retry/", answer).status_code == 403
    there.refresh_from_db()
    assert there.status == "failed"


def test_errors_are_not_told_to_those_who_may_not_view_nodes(two, client):
    here, there = two
    user = User.objects.create_user("kim", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_workflow"))
    client.force_login(user)
    for node in two:
        for page in ("change", "live"):
            path = f"{BASE}/workflow/{node.workflow_id}/{page}/"
            html = client.get(path).content.decode()
            assert "error" not in html.replace("errornote", ""), path
    assert client.get(f"{BASE}/workflow/", {"q": "team=canary"}).context["cl"].result_list == []
    user.user_permissions.add(Permission.objects.get(codename="view_node"))
    html = client.get(f"{BASE}/workflow/{there.workflow_id}/change/").content.decode()
    assert "canary error" in html


def test_links_lead_where_the_user_may_go(two, client):
    user = User.objects.create_user("kim", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_node"))
    client.force_login(user)
    for path in (f"{BASE}/", f"{BASE}/node/", f"{BASE}/node/{two[0].pk}/change/"):
        html = client.get(path).content.decode()
        assert "mine 1" in html and f"{BASE}/workflow/" not in html, path
    assert reverse("admin:backbeat_celery_workflow_changelist") == f"{BASE}/workflow/"

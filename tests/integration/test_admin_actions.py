"""Actions in the admin: who may, what happens, what is reported, and what is logged."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from backbeat_celery import current_node, signal
from backbeat_celery.admin.actions import NODE_ACTIONS, WORKFLOW_ACTIONS
from backbeat_celery.admin.steering import do
from backbeat_celery.models import Node, Workflow
from backbeat_celery.verbs.arguments import digest
from tests import workflows

REASON = "because I say so"
CASES = [
    *(("node", name) for name in NODE_ACTIONS),
    *(("workflow", name) for name in WORKFLOW_ACTIONS),
]
PERMISSIONS = [f"{verb}_{model}" for model, verb in CASES]


def permission(codename):
    return Permission.objects.get(content_type__app_label="backbeat_celery", codename=codename)


@pytest.fixture
def staff(client):
    """Log somebody in who has these permissions and may view everything."""

    def log_in(*codenames, view=True):
        user = User.objects.create_user("kim", password="x", is_staff=True)
        names = [*codenames, *(["view_node", "view_workflow"] if view else [])]
        user.user_permissions.set([permission(name) for name in names])
        client.force_login(user)
        return user

    return log_in


@pytest.fixture
def failed(sim, script):
    """A failed node with a sibling behind it."""

    def work(task):
        current_node().spawn(workflows.fatal.s())
        current_node().spawn(workflows.done.s("behind"))

    script(work)
    signal(workflows.scripted.s(), subject="camera", name="order")
    sim.run()
    return Node.objects.get(name="tests.workflows.fatal")


@pytest.fixture
def act(client, failed):
    """Do an action on the page of an object; give the response and the messages."""

    def post(model, verb, obj=None, **data):
        obj = obj or (failed if model == "node" else failed.workflow)
        url = reverse(f"admin:backbeat_celery_{model}_act", args=[obj.pk, verb])
        return client.post(url, {"post": "yes", "reason": REASON, **data}, follow=True)

    return post


def prepare(sim, model, verb, failed):
    """Bring the object into a state in which the action is possible; give the form's data."""
    if verb == "resume":
        failed.workflow.pause()
    if verb == "delete":
        failed.workflow.cancel()
        failed.workflow.close()
        sim.run()
    if verb == "signal":
        return {"task": "tests.workflows.done", "mode": "blocking", "args": "[1]"}
    if verb == "edit_arguments":
        return {"args": "[]", "kwargs": "{}", "seen": digest(failed)}
    return {}


def texts(response):
    return [str(message) for message in response.context["messages"]]


@pytest.mark.parametrize(("model", "verb"), CASES)
def test_action_is_done_logged_and_reported(sim, failed, staff, act, model, verb):
    user = staff(f"{verb}_{model}")
    data = prepare(sim, model, verb, failed)
    response = act(model, verb, **data)
    assert response.status_code == 200
    assert len(texts(response)) == 1, texts(response)
    assert "skipped" not in texts(response)[0]
    (entry,) = LogEntry.objects.all()
    target = failed if model == "node" else failed.workflow
    assert (entry.user, entry.object_id) == (user, str(target.pk))
    assert REASON in entry.change_message


@pytest.mark.parametrize(("model", "verb"), CASES)
@pytest.mark.parametrize("granted", ["none", "all others", "not even view"])
def test_action_needs_its_own_permission(sim, failed, staff, act, model, verb, granted, client):
    names = set(PERMISSIONS) - {f"{verb}_{model}"}
    others = {f"{v}_{m}" for m, v in CASES} & names if granted == "all others" else set()
    staff(*others, view=granted != "not even view")
    data = prepare(sim, model, verb, failed)
    before = list(Node.objects.order_by("pk").values("pk", "status", "args", "attempt"))
    workflow = Workflow.objects.values().get()
    assert act(model, verb, **data).status_code == 403
    url = reverse(f"admin:backbeat_celery_{model}_act", args=[failed.pk, verb])
    assert client.get(url).status_code == 403
    in_list = {"action": verb, "_selected_action": [failed.pk], "post": "yes", "reason": REASON}
    client.post(reverse(f"admin:backbeat_celery_{model}_changelist"), in_list)
    assert list(Node.objects.order_by("pk").values("pk", "status", "args", "attempt")) == before
    assert Workflow.objects.values().get() == workflow
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(("model", "verb"), CASES)
def test_action_needs_the_right_to_view(sim, failed, staff, act, model, verb):
    staff(f"{verb}_{model}", view=False)
    data = prepare(sim, model, verb, failed)
    assert act(model, verb, **data).status_code == 403


@pytest.mark.parametrize(("model", "verb"), CASES)
def test_asking_changes_nothing(sim, failed, staff, client, model, verb):
    staff(f"{verb}_{model}")
    prepare(sim, model, verb, failed)
    before = list(Node.objects.order_by("pk").values())
    target = failed if model == "node" else failed.workflow
    response = client.get(reverse(f"admin:backbeat_celery_{model}_act", args=[target.pk, verb]))
    assert 'name="reason"' in response.content.decode()
    assert list(Node.objects.order_by("pk").values()) == before


@pytest.mark.parametrize(("model", "verb"), CASES)
def test_csrf_token_is_needed(failed, staff, model, verb):
    user = staff(f"{verb}_{model}")
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(user)
    target = failed if model == "node" else failed.workflow
    url = reverse(f"admin:backbeat_celery_{model}_act", args=[target.pk, verb])
    assert strict.post(url, {"post": "yes", "reason": REASON}).status_code == 403


def test_every_permission_is_declared():
    declared = {name for model in (Node, Workflow) for name, _ in model._meta.permissions}
    builtin = {"delete_workflow"}
    assert set(PERMISSIONS) - builtin <= declared
    assert declared - set(PERMISSIONS) == {"view_payload_node"}


def test_shutdown_shows_which_nodes_it_drops(failed, staff, client):
    staff("shutdown_node")
    url = reverse("admin:backbeat_celery_node_act", args=[failed.pk, "shutdown"])
    html = client.get(url).content.decode()
    assert "1 other node will also be canceled" in html
    assert "done" in html


def test_drastic_action_insists_on_a_reason(failed, staff, act):
    staff("shutdown_node")
    response = act("node", "shutdown", reason="")
    assert "This field is required." in response.content.decode()
    failed.refresh_from_db()
    assert failed.status == "failed"


def test_selection_is_done_where_possible_and_the_rest_is_skipped(failed, staff, client):
    staff("retry_node")
    parent = failed.parent
    chosen = {"action": "retry", "_selected_action": [failed.pk, parent.pk]}
    url = reverse("admin:backbeat_celery_node_changelist")
    asked = client.post(url, chosen).content.decode()
    assert "It acts on 1 object" in asked
    assert "1 × it is waiting" in asked
    response = client.post(url, {**chosen, "post": "yes", "reason": REASON}, follow=True)
    assert texts(response) == [
        "Retried: tests.workflows.fatal (queued).",
        "1 was skipped: it is waiting",
    ]
    failed.refresh_from_db()
    assert failed.status == "queued"
    step = failed.history[-1]
    assert (step.actor, step.reason) == ("kim", REASON)


def test_selection_of_what_is_no_id_is_left_out(failed, staff, client):
    staff("cancel_node")
    data = {"action": "cancel", "_selected_action": ["all", failed.pk, ""], "post": "yes"}
    response = client.post(
        reverse("admin:backbeat_celery_node_changelist"), {**data, "reason": REASON}, follow=True
    )
    failed.refresh_from_db()
    assert texts(response) == [f"Canceled: {failed}."]
    assert failed.status == "canceled"


@pytest.mark.parametrize("model", ["node", "workflow"])
@pytest.mark.parametrize("page", ["change", "delete", "history"])
def test_page_of_what_is_no_id_sends_home(admin_client, model, page):
    response = admin_client.get(f"/admin/backbeat_celery/{model}/{{None}}/{page}/")
    assert response.status_code in {302, 403}


def test_object_that_changed_meanwhile_is_skipped_aloud(failed, staff, client):
    staff("retry_node")
    url = reverse("admin:backbeat_celery_node_changelist") + "?status=failed"
    failed.resolve()
    chosen = {"action": "retry", "_selected_action": [failed.pk], "post": "yes", "reason": "x"}
    response = client.post(url, chosen, follow=True)
    assert texts(response) == ["1 was skipped: it is complete"]


def test_all_that_match_a_filter(sim, staff, client, monkeypatch):
    monkeypatch.setattr("backbeat_celery.admin.nodes.NodeAdmin.list_per_page", 5)
    staff("retry_node")
    for number in range(12):
        signal(workflows.fatal.s(), subject=f"camera {number}")
    sim.run()
    url = reverse("admin:backbeat_celery_node_changelist") + "?status=failed"
    first = Node.objects.filter(status="failed").first()
    chosen = {"action": "retry", "_selected_action": [first.pk], "select_across": "1"}
    assert "It acts on 12 objects" in client.post(url, chosen).content.decode()
    response = client.post(url, {**chosen, "post": "yes", "reason": "x"}, follow=True)
    assert texts(response) == ["Retried: 12 nodes."]
    assert LogEntry.objects.count() == 12
    assert not Node.objects.filter(status="failed").exists()


def test_one_submit_acts_on_no_more_than_the_cap(sim, staff, client, monkeypatch):
    monkeypatch.setattr("backbeat_celery.admin.steering.BULK", 3)
    staff("cancel_node")
    for number in range(5):
        signal(workflows.fatal.s(), subject=f"camera {number}")
    sim.run()
    url = reverse("admin:backbeat_celery_node_changelist") + "?status=failed"
    first = Node.objects.filter(status="failed").first()
    chosen = {"action": "cancel", "_selected_action": [first.pk], "select_across": "1"}
    assert "More than 3 match" in client.post(url, chosen).content.decode()
    client.post(url, {**chosen, "post": "yes", "reason": "x"})
    assert Node.objects.filter(status="canceled").count() == 3


def test_race_with_somebody_else_is_told_not_raised(failed, staff, act, monkeypatch):
    staff("retry_node")
    monkeypatch.setattr("backbeat_celery.admin.steering.do", _meanwhile(failed))
    response = act("node", "retry")
    (text,) = texts(response)
    assert text.startswith("1 was skipped: ")
    assert "'retry' is not possible from there" in text


def _meanwhile(failed):
    """Let somebody else resolve the node between the asking and the doing."""

    def resolved_first(verb, rows, user, data):
        Node.objects.get(pk=failed.pk).resolve()
        return do(verb, rows, user, data)

    return resolved_first


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"task": "os.system"}, "Select a valid choice"),
        ({"args": "[1"}, "This is not JSON"),
        ({"args": "{}"}, "Write a list"),
        ({"kwargs": "[]"}, "Write an object"),
        ({"args": "[" * 40 + "]" * 40}, "nested too deep"),
        ({"mode": "sideways"}, "Select a valid choice"),
        ({"delay": "-1"}, "greater than or equal to 0"),
        ({"task": "tests.workflows.flaky", "args": "[1, 2, 3]"}, "cannot be called like this"),
    ],
)
def test_signal_that_cannot_be_sent_is_explained(failed, staff, act, data, complaint):
    staff("signal_workflow")
    count = Node.objects.count()
    good = {"task": "tests.workflows.done", "mode": "blocking"}
    response = act("workflow", "signal", **{**good, **data})
    assert complaint in response.content.decode()
    assert Node.objects.count() == count


def test_signal_is_sent_with_its_options(failed, staff, act):
    staff("signal_workflow")
    data = {"task": "tests.workflows.done", "mode": "non_blocking", "args": "[7]", "key": "k"}
    act("workflow", "signal", **data, kwargs='{"a": "b"}', delay="60")
    node = Node.objects.get(key="k")
    assert (node.args, node.kwargs, node.mode) == ([7], {"a": "b"}, "non_blocking")
    assert node.fires_at is not None


RESULTS = [("", None), ("703", 703), ('{"receipt": [7]}', {"receipt": [7]}), ("null", None)]


@pytest.mark.parametrize(("text", "result"), RESULTS)
def test_resolve_takes_a_result(failed, staff, act, text, result):
    staff("resolve_node")
    act("node", "resolve", result=text)
    failed.refresh_from_db()
    assert (failed.status, failed.outcome, failed.result) == ("complete", "resolved", result)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{nonsense", "This is not JSON"),
        ("NaN", "cannot be stored"),
        (f'"{"x" * 300_000}"', "MAX_PAYLOAD"),
        ("[" * 40 + "]" * 40, "nested too deeply"),
    ],
    ids=["broken", "no number", "too long", "too deep"],
)
def test_a_result_that_cannot_be_stored_is_explained(failed, staff, act, text, why):
    staff("resolve_node")
    response = act("node", "resolve", result=text)
    assert why in str(response.context["form"].errors["result"])
    failed.refresh_from_db()
    assert failed.status == "failed"


@pytest.mark.parametrize("may_close", [True, False])
def test_signal_may_close_the_workflow_with_the_right_to_close(failed, staff, act, may_close):
    staff("signal_workflow", *(["close_workflow"] if may_close else []))
    act("workflow", "signal", task="tests.workflows.done", mode="blocking", key="k", close="on")
    workflow = Node.objects.get(key="k").workflow
    assert (workflow.closed_at is not None) == may_close


@pytest.mark.parametrize("may_close", [True, False])
def test_the_form_of_a_signal_asks_who_may_close(failed, staff, client, may_close):
    staff("signal_workflow", *(["close_workflow"] if may_close else []))
    url = reverse("admin:backbeat_celery_workflow_act", args=[failed.workflow_id, "signal"])
    assert ('name="close"' in client.get(url).content.decode()) == may_close


def test_deletion_shows_what_it_cancels_and_takes_all(failed, staff, act, client):
    staff("delete_workflow")
    url = reverse("admin:backbeat_celery_workflow_act", args=[failed.workflow_id, "delete"])
    assert "3 other nodes will also be canceled" in client.get(url).content.decode()
    act("workflow", "delete")
    assert not Workflow.objects.exists()
    assert not Node.objects.exists()


def test_buttons_are_those_that_are_possible_and_permitted(failed, staff, client):
    staff("retry_node", "resolve_node", "pause_workflow", "resume_workflow")
    node = client.get(reverse("admin:backbeat_celery_node_change", args=[failed.pk]))
    assert [tool["label"] for tool in node.context["tools"]] == ["Retry", "Resolve", "Log"]
    page = client.get(reverse("admin:backbeat_celery_workflow_change", args=[failed.workflow_id]))
    assert [tool["label"] for tool in page.context["tools"]] == ["Pause", "Log"]


def test_no_field_can_be_edited_and_nothing_added_by_hand(failed, admin_client):
    for model, pk in (("node", failed.pk), ("workflow", failed.workflow_id)):
        assert admin_client.get(f"/admin/backbeat_celery/{model}/add/").status_code == 403
        url = f"/admin/backbeat_celery/{model}/{pk}/"
        admin_client.post(f"{url}change/", {"status": "complete", "name": "x"})
        admin_client.post(f"{url}delete/", {"post": "yes"})
    failed.refresh_from_db()
    assert failed.status == "failed"
    assert failed.workflow.name == "order"

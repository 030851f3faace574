"""Which tasks may be run from the admin."""

from __future__ import annotations

import json

import pytest
from celery import chain, chord, group, signature
from django.contrib.auth.models import Permission, User

from backbeat_celery import signal
from backbeat_celery.models import Node
from tests import workflows

DONE, PLAIN = "tests.workflows.done", "tests.workflows.plain"


@pytest.fixture
def send(sim, client):
    """Post the form of a signal as somebody who may send them."""
    node = signal(workflows.done.s(), subject="camera")
    user = User.objects.create_user("kim", is_staff=True)
    names = ["view_node", "view_workflow", "signal_workflow"]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)
    url = f"/admin/backbeat_celery/workflow/{node.workflow_id}/act/signal/"

    def post(task):
        offered = [name for name, _ in client.get(url).context["form"].fields["task"].choices]
        data = {"post": "yes", "task": task, "args": "[1]", "kwargs": "{}", "mode": "blocking"}
        sent = client.post(url, data).status_code == 302
        assert Node.objects.filter(parent__isnull=False).count() == 1 + sent
        return task in offered, sent

    return post


@pytest.mark.parametrize(
    ("allowed", "done", "plain"),
    [
        (None, True, True),
        ([], False, False),
        ([DONE], True, False),
        ({"tests.workflows.d*"}, True, False),
        (["tests.workflows.*"], True, True),
        (["other.*", "done", "TESTS.*"], False, False),
    ],
)
@pytest.mark.parametrize("task", [DONE, PLAIN])
def test_only_tasks_that_are_named_can_be_signalled(settings, send, allowed, done, plain, task):
    settings.BACKBEAT = {"ADMIN_TASKS": allowed}
    expected = done if task == DONE else plain
    assert send(task) == (expected, expected)


def test_celerys_and_our_own_tasks_are_never_offered(settings, send):
    settings.BACKBEAT = {"ADMIN_TASKS": ["*"]}
    assert send("backbeat.purge") == (False, False)
    assert send("celery.accumulate") == (False, False)


SECRET = workflows.fatal
CANVASES = {
    "member": group(workflows.done.s(1), SECRET.si()),
    "header": chord([SECRET.si(), workflows.done.s(1)], workflows.done.s()),
    "body": chord([workflows.done.s(1)], SECRET.si()),
    "deep": chain(workflows.done.s(1), chord([workflows.done.s(1)], group(SECRET.si()))),
    "alone": SECRET.s(),
    "link": workflows.done.s(1).set(link=SECRET.si()),
    "errback": chain(workflows.done.s(1), workflows.done.s()).on_error(SECRET.si()),
    "errback of an errback": workflows.done.s(1).on_error(
        workflows.done.s().on_error(SECRET.si())
    ),
    "link of a chord": chord([workflows.done.s(1)], workflows.done.s()).set(link=[SECRET.si()]),
    "map": SECRET.map([1]),
    "starmap": chain(workflows.done.s(1), SECRET.starmap([(1,)])),
    "chunks": SECRET.chunks([(1,), (2,)], 1),
    "our map": signature("backbeat.map", kwargs={"task": SECRET.name, "it": [1]}),
}


@pytest.fixture
def refused(client, sim):
    """Post a canvas as somebody who may send signals; give the complaint about it."""
    node = signal(workflows.done.s(), subject="camera")
    client.force_login(User.objects.create_superuser("root"))
    url = f"/admin/backbeat_celery/workflow/{node.workflow_id}/act/signal/"

    def post(canvas):
        data = {"post": "yes", "mode": "blocking", "canvas": json.dumps(canvas)}
        before = Node.objects.count()
        form = client.post(url, data).context["form"]
        is_sent = client.post(url, {**data, "seen": form["seen"].value() or ""}).status_code == 302
        assert is_sent == (not form.errors) == (Node.objects.count() > before)
        return form.errors.get("canvas", [""])[0]

    return post


@pytest.mark.parametrize("place", CANVASES)
def test_no_task_is_reached_through_a_canvas(settings, refused, place):
    settings.BACKBEAT = {"ADMIN_TASKS": [DONE, PLAIN]}
    assert refused(CANVASES[place]) == f"Not to be signalled from the admin: {SECRET.name}."
    settings.BACKBEAT = {"ADMIN_TASKS": [DONE, SECRET.name]}
    assert refused(CANVASES[place]) == ""


@pytest.mark.parametrize(
    ("canvas", "name"),
    [
        (signature("backbeat.purge"), "backbeat.purge"),
        (
            chain(workflows.done.s(DONE), signature("backbeat.map", kwargs={"it": [1]})),
            "backbeat.map",
        ),
        (signature("backbeat.map", args=(DONE, [1])), "backbeat.map"),
        (
            signature(
                "celery.map", kwargs={"task": {"task": "backbeat.map"}, "it": [[DONE, [1]]]}
            ),
            "backbeat.map",
        ),
        (chain(workflows.done.s(1), signature("other.task", queue="other")), "other.task"),
    ],
)
def test_a_canvas_takes_tasks_of_the_project_only(settings, refused, canvas, name):
    """A map whose task is not in the canvas might call any; another code base's is not ours."""
    for allowed in (None, ["*"]):
        settings.BACKBEAT = {"ADMIN_TASKS": allowed}
        assert name in refused(canvas)


def test_every_task_that_is_refused_is_named(settings, refused):
    settings.BACKBEAT = {"ADMIN_TASKS": []}
    canvas = group(workflows.done.s(1), workflows.plain.s(1))
    assert refused(canvas) == f"Not to be signalled from the admin: {DONE}, {PLAIN}."


def test_the_permission_says_what_it_allows(db):
    names = dict(Permission.objects.values_list("codename", "name"))
    assert names["signal_workflow"] == "Can run tasks with any arguments by signals to workflows"
    assert names["edit_arguments_node"] == "Can run failed nodes again with any arguments"

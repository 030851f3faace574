"""A canvas in the admin's form of a signal: it is shown, then sent, or its error is told."""

from __future__ import annotations

import json
from functools import reduce

import pytest
from celery import chain, chord, group, signature
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from backbeat_celery import signal
from backbeat_celery.exceptions import BadInput
from backbeat_celery.inputs.canvas import signature_of, task_spec
from backbeat_celery.models import Node, Workflow
from tests import workflows
from tests.workflows import done, helper, plain

DONE, PLAIN, HELPER = done.name, plain.name, helper.name
SECRET = "canary-4711"
DROPPED = object()


@pytest.fixture
def workflow(sim):
    return signal(done.s(), subject="camera", name="order").workflow


@pytest.fixture
def staff(db, client):
    """Log somebody in who may view, and has these permissions."""
    user = User.objects.create_user("kim", is_staff=True)
    client.force_login(user)

    def grant(*names):
        codenames = ["view_node", "view_workflow", *names]
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        return user

    grant("signal_workflow")
    return grant


@pytest.fixture
def post(client, staff, workflow):
    """Post the form once."""

    def send(canvas, **data):
        text = canvas if isinstance(canvas, str) else json.dumps(canvas)
        url = reverse("admin:backbeat_celery_workflow_act", args=[workflow.pk, "signal"])
        return client.post(url, {"post": "yes", "mode": "blocking", "canvas": text, **data})

    return send


@pytest.fixture
def send(post):
    """Post the form, and what it shows once more."""

    def twice(canvas, **data):
        shown = post(canvas, **data)
        assert not shown.context["form"].errors, shown.context["form"].errors
        return post(canvas, **data, seen=shown.context["form"]["seen"].value())

    return twice


def sent():
    """The signals, without the one that opened the workflow."""
    return list(Node.objects.filter(parent__parent=None, parent__isnull=False).order_by("seq"))[1:]


def complaint(response):
    return str(response.context["form"].errors["canvas"])


def test_a_chord_is_shown_then_sent_and_runs(sim, post, workflow):
    body = done.s().set(link=done.s("linked"), link_error=helper.s())
    canvas = chord([plain.s(1), plain.s(2)], body)
    shown = post(canvas, key="k")
    assert shown.status_code == 200
    assert shown.context["form"].outline.splitlines() == [
        "chord",
        "├─ header",
        f"│  ├─ {PLAIN}",
        f"│  └─ {PLAIN}",
        f"└─ {DONE} [body]",
        f"   ├─ {DONE} [link]",
        f"   └─ {HELPER} [error callback]",
    ]
    assert "Nothing has been sent yet" in shown.content.decode()
    assert not sent() and not LogEntry.objects.exists()

    seen = shown.context["form"]["seen"].value()
    assert post(canvas, key="k", seen=seen).status_code == 302
    [top] = sent()
    assert (top.container, top.key, top.workflow) == ("chord", "k", workflow)
    sim.run()
    top.refresh_from_db()
    assert (top.status, top.get_result()) == ("complete", [2, 3])
    assert LogEntry.objects.count() == 1


def test_the_page_sends_back_what_was_shown_without_a_script(post, client):
    """Its hidden field is all that the second submit needs."""
    html = post(chain(done.s(1), done.s())).content.decode()
    assert "It will start" in html
    form = html[html.index('<form method="post" novalidate>') :]
    assert 'type="hidden" name="seen" value="' in form
    assert "&quot;celery.chain&quot;" in form
    assert "onclick" not in form and "style=" not in form and "<script" not in form


def test_a_canvas_that_was_changed_is_shown_anew(post):
    seen = post(chain(done.s(1), done.s())).context["form"]["seen"].value()
    again = post(chain(done.s(1), plain.s()), seen=seen)
    assert PLAIN in again.context["form"].outline
    assert not sent()


def test_a_task_is_sent_at_once_as_ever(post):
    assert post("", task=DONE, args="[7]").status_code == 302
    assert [node.args for node in sent()] == [[7]]


def test_options_are_those_of_the_whole_canvas(send, staff, workflow):
    staff("signal_workflow", "close_workflow")
    canvas = group(done.si(1), done.si(2))
    assert send(canvas, mode="non_blocking", delay="60", close="on").status_code == 302
    [top] = sent()
    workflow.refresh_from_db()
    assert (top.mode, workflow.closed_at is not None) == ("non_blocking", True)


def test_one_signature_with_its_callbacks_is_a_canvas(sim, send):
    assert send(plain.s(2).set(link=done.s())).status_code == 302
    sim.run()
    assert [call.task for call in sim.calls] == [DONE, PLAIN, DONE]


def test_many_workflows_get_one_each(sim, client, staff, workflow):
    for number in range(2):
        signal(done.s(), subject=f"camera {number}", name="order")
    url = reverse("admin:backbeat_celery_workflow_changelist")
    canvas = chord([plain.s(1), plain.s(2)], done.s())
    data = {
        "action": "signal",
        "_selected_action": [str(pk) for pk in Workflow.objects.values_list("pk", flat=True)],
        "post": "yes",
        "mode": "blocking",
        "canvas": json.dumps(canvas),
    }
    shown = client.post(url, data)
    assert shown.content.decode().count('name="_selected_action"') == 3
    assert not Node.objects.filter(container="chord").exists()
    seen = shown.context["form"]["seen"].value()
    assert client.post(url, {**data, "seen": seen}).status_code == 302
    sim.run()
    tops = Node.objects.filter(container="chord")
    assert {top.workflow_id for top in tops} == set(Workflow.objects.values_list("pk", flat=True))
    assert [top.get_result() for top in tops] == [[2, 3]] * 3


@pytest.mark.parametrize(
    ("canvas", "data", "why"),
    [
        ("[1", {}, "This is not JSON"),
        ("[]", {}, "Write an object"),
        ('{"a": 1}', {}, "neither a task nor a signature"),
        ('{"task": 7}', {}, "is no signature: its task is 7"),
        ('{"task": "celery.chain", "options": []}', {}, "its options is []"),
        ('{"task": "celery.chain", "kwargs": {}}', {}, "celery.chain has no tasks"),
        ('{"task": "x", "subtask_type": "ring"}', {}, "no signature as Celery writes it"),
        ('{"task": "celery.accumulate"}', {}, "cannot be a node"),
        (chain(done.s(1), done.s()), {"task": DONE}, "not both"),
        (chain(done.s(1), done.s()), {"args": "[1]"}, "not both"),
        (chain(done.s(1), done.s()), {"kwargs": '{"a": 1}'}, "not both"),
        (chain(done.s(1), done.s()), {"delay": "1e12"}, "between 0 seconds and 100 years"),
        (
            chain(done.s(1), chord([done.s(), signature("shop.nowhere")], done.s())),
            {},
            "step 2 &gt; header &gt; member 2 &gt; shop.nowhere: No task",
        ),
        (chain(done.s(), plain.s(1, 2)), {}, f"step 2 &gt; {PLAIN}: "),
        (group(done.s("[" * 9), done.s(float("nan"))), {}, "member 2"),
        ("{%s}" % ('"a": {' * 200), {}, "This is not JSON"),
        ('{"a": ' * 200 + "1" + "}" * 200, {}, "nested too deeply"),
    ],
)
def test_a_canvas_that_cannot_be_sent_is_explained_at_its_field(post, canvas, data, why):
    response = post(canvas, **data)
    assert why in complaint(response)
    assert not sent()
    assert not response.context["form"].outline


JUNK = [None, 7, "x", [], {}, ["x"], {"a": 1}, True]


def places_in(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, (dict, list)):
            yield from places_in(item, (*path, key))


@pytest.mark.parametrize(
    "canvas",
    [
        chain(done.s(1), group(done.s(2), done.s(3)), done.s().on_error(done.s())),
        chord([plain.map([1]), group(chain(done.s(), done.s()))], done.s().set(link=done.s())),
        group(
            plain.chunks([(1, 2), (3, 4)], 1), chord(group(done.s()), chain(done.s(), done.s()))
        ),
    ],
    ids=["chain", "chord", "group"],
)
def test_whatever_is_wrong_in_a_canvas_is_bad_input(canvas):
    """A process that took its JSON from anywhere gets no other error."""
    text = json.dumps(canvas)
    refused = 0
    for *path, last in places_in(json.loads(text)):
        for wrong in [*JUNK, DROPPED]:
            described = json.loads(text)
            part = reduce(lambda inner, key: inner[key], path, described)
            if wrong is DROPPED:
                del part[last]
            else:
                part[last] = wrong
            try:
                task_spec(signature_of(described))
            except BadInput:
                refused += 1
    assert refused > 100


@pytest.mark.parametrize("canvas", ["", "{}", "  "])
def test_a_form_with_neither_a_task_nor_a_canvas_says_so(post, canvas):
    response = post(canvas)
    assert "Choose a task, or give a canvas." in str(response.context["form"].errors["task"])
    assert not sent()


@pytest.mark.parametrize("names", [[], ["close_workflow", "cancel_workflow", "retry_node"]])
def test_nobody_sends_one_without_the_permission(post, staff, names):
    staff(*names)
    assert post(chain(done.s(1), done.s())).status_code == 403
    assert not sent()


def test_what_is_shown_names_tasks_and_no_arguments(settings, post):
    settings.BACKBEAT = {"REDACT": ["card"]}
    canvas = chain(done.s(card=SECRET), workflows.revealing.map([SECRET]))
    canvas.link_error(helper.s(day=SECRET))
    outline = post(canvas).context["form"].outline
    assert f"backbeat.map ({workflows.revealing.name})" in outline
    assert SECRET not in outline


def test_of_many_nodes_the_first_are_shown(send, post):
    canvas = group(done.s(number) for number in range(300))
    lines = post(canvas).context["form"].outline.splitlines()
    assert (len(lines), lines[-1]) == (101, "…")
    assert send(canvas).status_code == 302

"""What the settings hide is seen nowhere in the admin, and is not lost by an edit."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from backbeat_celery import current_node, node_task, signal
from backbeat_celery.models import Attempt, Node
from tests import workflows

CANARY = "canary-4711-secret"
META = "another-bird"


@node_task(max_retries=0, name="tests.paying")
def paying(card, amount, **options):
    current_node().spawn(workflows.done.s(card))
    known = current_node().metadata
    raise RuntimeError(f"the bank refused {card} and {options}, and knows {known}")


@pytest.fixture(autouse=True)
def hidden(settings):
    settings.BACKBEAT = {"REDACT": ["card", "pin"]}


@pytest.fixture
def failed(sim):
    node = signal(
        paying.s(CANARY, 5, deep={"list": [{"pin": f"{CANARY}-pin", "x": "shown"}]}),
        subject="camera",
        metadata={"card": META},
    )
    sim.run()
    node.refresh_from_db()
    Node.objects.filter(pk=node.pk).update(result={"pin": f"{CANARY}-result"})
    traceback = Attempt.objects.get().traceback
    assert CANARY in traceback and META in traceback
    return node


def edit_url(node):
    return reverse("admin:backbeat_celery_node_act", args=[node.pk, "edit_arguments"])


def test_hidden_values_are_on_no_page(failed, admin_client):
    base = "/admin/backbeat_celery"
    for url in (
        f"{base}/",
        f"{base}/node/",
        f"{base}/node/{failed.pk}/change/",
        f"{base}/node/{failed.pk}/change/?whole",
        f"{base}/node/{failed.pk}/act/retry/",
        edit_url(failed),
        f"{base}/workflow/",
        f"{base}/workflow/{failed.workflow_id}/change/",
        f"{base}/workflow/{failed.workflow_id}/live/",
    ):
        html = admin_client.get(url).content.decode()
        assert CANARY not in html and META not in html, url
    html = admin_client.get(f"{base}/node/{failed.pk}/change/").content.decode()
    assert "the bank refused •••" in html
    assert "shown" in html


@pytest.fixture
def edit(failed, admin_client):
    """Send the form as it is shown, with changes."""

    def send(change=lambda args, kwargs: None, **data):
        form = admin_client.get(edit_url(failed)).context["form"]
        args, kwargs = json.loads(form["args"].initial), json.loads(form["kwargs"].initial)
        change(args, kwargs)
        sent = {
            "post": "yes",
            "reason": "typo",
            "seen": form["seen"].initial,
            "args": json.dumps(args),
            "kwargs": json.dumps(kwargs),
            **data,
        }
        return admin_client.post(edit_url(failed), sent, follow=True)

    return send


def test_edit_keeps_what_it_does_not_show(failed, edit):
    def change(args, kwargs):
        args[1] = 6
        kwargs["deep"]["list"][0]["x"] = "other"

    edit(change)
    failed.refresh_from_db()
    assert failed.args == [CANARY, 6]
    assert failed.kwargs == {"deep": {"list": [{"pin": f"{CANARY}-pin", "x": "other"}]}}
    assert failed.status == "queued"
    step = failed.history[-1]
    assert (step.actor, step.reason) == ("admin", "arguments edited: typo")


def test_hidden_value_can_be_replaced_knowingly(failed, edit):
    edit(lambda args, kwargs: args.__setitem__(0, "new card"))
    failed.refresh_from_db()
    assert failed.args[0] == "new card"


def test_mark_in_a_place_where_nothing_is_hidden_is_refused(failed, edit):
    response = edit(lambda args, kwargs: kwargs.update(other="•••"))
    assert "there is none in this place" in response.content.decode()
    failed.refresh_from_db()
    assert failed.status == "failed"


def test_arguments_must_fit_the_task(failed, edit):
    response = edit(lambda args, kwargs: args.clear())
    assert "cannot be called like this" in response.content.decode()


def test_edit_after_somebody_elses_edit_is_refused(failed, edit, admin_client):
    seen = admin_client.get(edit_url(failed)).context["form"]["seen"].initial
    Node.objects.filter(pk=failed.pk).update(args=[CANARY, 9])
    response = edit(seen=seen)
    assert "The arguments have changed meanwhile" in response.content.decode()
    failed.refresh_from_db()
    assert failed.args == [CANARY, 9]
    assert failed.status == "failed"


def test_long_values_are_cut_and_whole_for_those_who_may(sim, client):
    node = signal(workflows.done.s(text="a" * 5000 + "THE END"), subject="camera")
    sim.run()
    user = User.objects.create_user("kim", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_node"))
    client.force_login(user)
    url = reverse("admin:backbeat_celery_node_change", args=[node.pk])
    for address in (url, f"{url}?whole"):
        html = client.get(address).content.decode()
        assert "THE END" not in html
        assert "you need the permission to view payloads" in html
    user.user_permissions.add(Permission.objects.get(codename="view_payload_node"))
    assert "Show everything" in client.get(url).content.decode()
    assert "THE END" in client.get(f"{url}?whole").content.decode()

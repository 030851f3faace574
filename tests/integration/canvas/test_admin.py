"""A canvas in the admin: its forms, where values come from, and who may see them."""

from __future__ import annotations

import re
from typing import Any

from celery import chain, chord, group, shared_task
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from backbeat_celery import signal
from backbeat_celery.models import Node
from backbeat_celery.testing import Simulation
from tests.integration.canvas.tasks import add, boom, by_id, double, fan_out, identity, note, total

CARD = "4111-1111-1111"


@shared_task(name="tests.canvas.receipt")
def receipt(card: str) -> str:
    return f"paid by {card}"


def run(canvas: Any, sim: Simulation) -> Node:
    node = signal(canvas, subject="order")
    sim.run()
    node.refresh_from_db()
    return node


def url(node: Node, query: str = "") -> str:
    return reverse("admin:backbeat_celery_node_change", args=[node.pk]) + query


def text(html: Any) -> str:
    """A page's words, without tags."""
    return " ".join(re.sub(r"<[^>]*>", " ", html.content.decode()).split())


def test_a_chord_looks_like_a_chord(sim: Simulation, admin_client: Any) -> None:
    node = run(chord([add.s(1, 1), boom.s()], chain(total.s(), double.s())), sim)
    page = reverse("admin:backbeat_celery_workflow_change", args=[node.workflow_id])
    words = text(admin_client.get(page))
    assert "chord ◑ waiting" in words
    assert "header group ◑ waiting" in words
    assert "chain body waits for header ○ ready" in words
    assert "total waits for the chain to begin · pending" in words
    assert "non-blocking" not in words
    words = text(admin_client.get(url(Node.objects.get(name="header"))))
    assert "Form group" in words


def test_the_source_of_a_value_is_a_link(sim: Simulation, admin_client: Any) -> None:
    top = run(chord([add.s(1, 2), chain(add.s(1, 1), double.s())], total.s()), sim)
    body, header = Node.objects.get(task=total.name), Node.objects.get(name="header")
    html = admin_client.get(url(body))
    assert "First argument the value of header" in text(html)
    assert f'the value of <a href="{url(header)}">header</a>' in html.content.decode()
    assert "Value [ 3, 4 ]" in text(admin_client.get(url(header)))
    assert "Value 7" in text(admin_client.get(url(top)))
    assert "Value" not in text(html)  # it has a result of its own


def test_the_value_of_a_node_that_was_replaced_is_shown(
    sim: Simulation, admin_client: Any
) -> None:
    assert "Value [ 1, 2 ]" in text(admin_client.get(url(run(fan_out.s(2), sim))))


def test_callbacks_id_and_expiry_are_told(sim: Simulation, admin_client: Any) -> None:
    signature = boom.s().set(task_id="chosen-7", countdown=60, expires=600)
    signature.link(note.s())
    node = run(signature.on_error(by_id.s()), sim)
    words = text(admin_client.get(url(node)))
    names = f"On success {note.name} On failure {by_id.name}"
    assert names in words and "Expires in 10 min" in words and "Task id chosen-7" in words
    sim.advance(minutes=2)
    assert "Expires" not in text(admin_client.get(url(node)))
    called = Node.objects.get(task=by_id.name)
    words = text(admin_client.get(url(called)))
    assert "error callback" in words and "First argument the id of boom" in words


def test_hidden_values_are_hidden_where_they_are_handed_on(
    sim: Simulation, admin_client: Any, settings: Any
) -> None:
    settings.BACKBEAT = {"REDACT": ["card"]}
    run(group(chain(identity.s(CARD), receipt.s()), receipt.s("4222-2222-2222")), sim)
    run(chain(identity.s({"card": CARD}), identity.s(), identity.s()), sim)
    for node in Node.objects.exclude(parent=None):
        if node.task == identity.name and node.args == [CARD]:
            continue  # nothing says that this is a card
        html = admin_client.get(url(node, "?whole")).content.decode()
        assert CARD not in html and "4222" not in html, node.name


def test_a_value_is_cut_and_whole_for_those_who_may(sim: Simulation, client: Any) -> None:
    node = run(group(identity.s("a" * 5000 + "THE END")), sim)
    user = User.objects.create_user("kim", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_node"))
    client.force_login(user)
    for address in (url(node), url(node, "?whole")):
        assert "THE END" not in client.get(address).content.decode()
    user.user_permissions.add(Permission.objects.get(codename="view_payload_node"))
    assert "THE END" in client.get(url(node, "?whole")).content.decode()


def test_the_page_before_a_cancel_says_what_else_is_canceled(
    sim: Simulation, admin_client: Any
) -> None:
    run(chord([boom.s(), add.s(1, 1)], total.s()), sim)
    failed = Node.objects.get(task=boom.name)
    for verb in ("cancel", "shutdown"):
        page = reverse("admin:backbeat_celery_node_act", args=[failed.pk, verb])
        assert "total" in text(admin_client.get(page))

"""Arguments of nodes that get others first: hidden by what they are, and edited as they are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from celery import chain, chord, shared_task
from django.urls import reverse

from backbeat_celery import signal
from backbeat_celery.models import Attempt, Node
from backbeat_celery.testing import Simulation
from tests.integration.canvas.tasks import add, identity

CARD = "4111-1111-1111"


@shared_task(name="tests.canvas.pay")
def pay(amount: int, card: str, note: str = "") -> None:
    raise RuntimeError(f"the bank refused {amount} from {card}")


@shared_task(name="tests.canvas.pay_with")
def pay_with(card: Any, amount: int) -> None:
    raise RuntimeError(f"the bank refused {amount} from {card}")


@pytest.fixture(autouse=True)
def hidden(settings: Any) -> None:
    settings.BACKBEAT = {"REDACT": ["card"]}


def failed(canvas: Any, sim: Simulation) -> Node:
    signal(canvas, subject="order")
    sim.run()
    return Node.objects.get(status="failed")


def page(node: Node, client: Any) -> str:
    url = reverse("admin:backbeat_celery_node_change", args=[node.pk])
    html: str = client.get(url).content.decode()
    return html


def test_the_parameter_behind_the_given_one_is_hidden(sim: Simulation, admin_client: Any) -> None:
    node = failed(chain(add.s(2, 3), pay.s(CARD, "shown")), sim)
    html = page(node, admin_client)
    assert CARD not in html and "shown" in html and "the bank refused 5 from •••" in html
    assert CARD not in node.explain() + node.workflow.render()


@pytest.mark.parametrize("source", [identity.s(CARD), identity.s({"card": CARD})])
def test_an_input_that_is_hidden_is_not_kept_with_the_error(
    source: Any, sim: Simulation, admin_client: Any
) -> None:
    node = failed(chain(source, pay_with.s(5)), sim)
    assert node.error is not None and "the bank refused 5 from" in node.error
    attempt = Attempt.objects.get(node=node)
    for text in (node.error, attempt.error, attempt.traceback, page(node, admin_client)):
        assert CARD not in text and "***" in text


def test_a_member_of_a_chord_shows_its_argument(sim: Simulation, admin_client: Any) -> None:
    node = failed(chord([identity.s(CARD)], pay_with.s(703)), sim)
    html = page(node, admin_client)
    assert "703" in html and CARD not in html


def test_arguments_behind_the_input_are_edited(sim: Simulation, admin_client: Any) -> None:
    node = failed(chain(add.s(2, 3), pay.s(CARD, "old")), sim)
    url = reverse("admin:backbeat_celery_node_act", args=[node.pk, "edit_arguments"])
    form = admin_client.get(url).context["form"]
    assert json.loads(form["args"].initial) == ["•••", "old"]
    data = {"post": "yes", "reason": "typo", "seen": form["seen"].initial, "kwargs": "{}"}
    refused = admin_client.post(url, {**data, "args": "[]"}, follow=True)
    assert "missing 1 required positional argument" in refused.content.decode()
    admin_client.post(url, {**data, "args": json.dumps(["•••", "new"])}, follow=True)
    node.refresh_from_db()
    assert (node.args, node.status) == ([CARD, "new"], "queued")

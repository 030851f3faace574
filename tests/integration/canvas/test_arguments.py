"""Arguments of nodes that get others first: hidden by what they are, and edited as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import chain, chord, shared_task, signals
from celery.app.task import Context
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


@shared_task(name="tests.canvas.read")
def read(card: str) -> str:
    return card


@shared_task(name="tests.canvas.on_failure")
def on_failure(request: Any, exc: BaseException, traceback: str, loud: bool) -> str:
    told = f"{request.args} {request.kwargs} {exc!r} {traceback}"
    if loud:
        raise LookupError(told)
    return told


@shared_task(name="tests.canvas.refuse")
def refuse(item: int) -> None:
    raise RuntimeError(f"no {item}")


@shared_task(name="tests.canvas.count", lazy_input=True)
def count(values: Any) -> int:
    return len(list(values))


@pytest.fixture
def told() -> Iterator[list[str]]:
    """The arguments, results and errors that Celery's signals show to receivers, as text."""
    heard: list[str] = []

    def hear(**shown: Any) -> None:
        wanted = ("args", "kwargs", "retval", "result", "exception", "einfo", "reason")
        request = shown.get("args") and vars(shown["args"][0]) if _is_errback(shown) else ""
        heard.append(repr([shown.get(name) for name in wanted]) + str(request))

    kinds = ("prerun", "postrun", "success", "failure", "retry")
    receivers = [getattr(signals, f"task_{kind}") for kind in kinds]
    for each in receivers:
        each.connect(hear, weak=False)
    yield heard
    for each in receivers:
        each.disconnect(hear)


def _is_errback(shown: dict[str, Any]) -> bool:
    return bool(shown.get("args")) and isinstance(shown["args"][0], Context)


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


@pytest.mark.parametrize("loud", [False, True])
@pytest.mark.parametrize("source", [pay.s(5, CARD), chain(read.s(CARD), pay_with.s(5))])
def test_an_error_callback_shows_nothing_of_what_it_is_told(
    source: Any, loud: bool, sim: Simulation, admin_client: Any, told: list[str]
) -> None:
    signal(source.clone().on_error(on_failure.s(loud)), subject="order")
    sim.run()
    (callback,) = Node.objects.filter(task=on_failure.name)
    assert callback.status == ("failed" if loud else "complete")
    if not loud:
        assert CARD in callback.result  # the callback itself is told all
    assert any("on_failure" in text or "the bank" in text for text in told)
    attempt = Attempt.objects.get(node=callback)
    for text in (*told, page(callback, admin_client), f"{attempt.error} {attempt.traceback}"):
        assert CARD not in text
    assert "•••" in page(callback, admin_client) or "***" in page(callback, admin_client)


def test_an_error_callback_of_a_chord_shows_nothing_of_the_failed_member(
    sim: Simulation, admin_client: Any, told: list[str]
) -> None:
    body = identity.s().on_error(on_failure.s(False))
    failed(chord([add.s(1, 2), chain(read.s(CARD), pay_with.s(5))], body), sim)
    (callback,) = Node.objects.filter(task=on_failure.name)
    assert callback.status == "complete"
    for text in (*told, page(callback, admin_client)):
        assert CARD not in text


def test_an_error_callback_is_told_the_value_before(sim: Simulation) -> None:
    failed(chain(identity.s(703), pay_with.s(5)).on_error(on_failure.s(False)), sim)
    (callback,) = Node.objects.filter(task=on_failure.name)
    assert callback.result.startswith("[703, 5] {}")


def test_values_that_are_read_later_are_shown_to_nobody(sim: Simulation, told: list[str]) -> None:
    signal(chord([identity.s({"card": CARD})], count.s()), subject="order")
    sim.run()
    assert Node.objects.get(task=count.name).result == 1
    assert CARD not in "".join(told[2:])
    assert "<values of" not in "".join(told)


@pytest.mark.parametrize(
    ("args", "kwargs", "refused"),
    [
        ([], {"task": pay_with.name, "it": [1]}, True),
        ([], {"it": [1]}, True),
        ([pay_with.name], {"it": [1]}, True),
        ([], {"task": refuse.name, "it": [5, 6]}, False),
    ],
)
def test_the_task_that_a_map_calls_is_not_edited(
    args: Any, kwargs: Any, refused: bool, sim: Simulation, admin_client: Any
) -> None:
    node = failed(refuse.map([1, 2]), sim)
    url = reverse("admin:backbeat_celery_node_act", args=[node.pk, "edit_arguments"])
    seen = admin_client.get(url).context["form"]["seen"].initial
    data = {"post": "yes", "reason": "", "seen": seen}
    sent = {**data, "args": json.dumps(args), "kwargs": json.dumps(kwargs)}
    answer = admin_client.post(url, sent, follow=True).content.decode()
    node.refresh_from_db()
    assert ("Edit the items only" in answer) is refused
    assert node.kwargs == ({"task": refuse.name, "it": [1, 2]} if refused else kwargs)

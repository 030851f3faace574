"""Completion tokens: whoever holds one may report one attempt, once, and no other."""

from __future__ import annotations

import json
import logging

import pytest
from django.core import signing
from django.test import Client
from django.urls import include, path, reverse

from backbeat_celery import current_node
from backbeat_celery.callbacks import complete_by_token, fail_by_token
from backbeat_celery.exceptions import BadPayload, BadToken, StaleAttempt, UnsupportedOption
from backbeat_celery.models import Node
from tests import workflows

urlpatterns = [path("backbeat/", include("backbeat_celery.urls"))]


@pytest.fixture(autouse=True)
def urls(settings):
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def given(script, send):
    """A node that awaits completion, and the tokens that its attempts have handed out."""
    tokens = []
    script(lambda _: tokens.append(current_node().completion_token()))
    return send(workflows.scripted_awaiting), tokens


@pytest.fixture
def post():
    """POST to a token's URL, as a service without cookies does."""
    client = Client(enforce_csrf_checks=True)

    def send(token, body, **options):
        url = reverse("backbeat_celery:complete", args=[token])
        text = body if isinstance(body, (str, bytes)) else json.dumps(body)
        return client.post(url, text, content_type="application/json", **options)

    return send


def fresh(node):
    node.refresh_from_db()
    return node


def test_a_token_is_good_for_one_report(sim, given):
    node, (token,) = given
    complete_by_token(token, {"ok": 1})
    assert (fresh(node).status, node.result) == ("complete", {"ok": 1})
    for report in (complete_by_token, fail_by_token):
        with pytest.raises(StaleAttempt):
            report(token, "again")
    assert fresh(node).result == {"ok": 1}


def test_a_failure_by_token_is_retried_with_another_token(sim, given):
    node, tokens = given
    fail_by_token(tokens[0], "no")
    sim.advance(seconds=10)
    assert (fresh(node).attempt, node.error) == (2, "no")
    with pytest.raises(StaleAttempt):
        complete_by_token(tokens[0])
    complete_by_token(tokens[1])
    assert fresh(node).status == "complete"


def test_a_token_of_a_lost_attempt_is_good_for_nothing(sim, given):
    node, (token,) = given
    sim.advance(seconds=605)
    with pytest.raises(StaleAttempt):
        complete_by_token(token)
    assert fresh(node).status == "retrying"


def test_a_token_used_while_the_handler_runs_is_kept(script, send):
    script(lambda _: complete_by_token(current_node().completion_token(), "early"))
    node = send(workflows.scripted_awaiting)
    assert (node.status, node.result) == ("complete", "early")


@pytest.mark.parametrize(
    "alter",
    [
        lambda token: "",
        lambda token: token[1:],
        lambda token: token + "x",
        lambda token: token.swapcase(),
        lambda token: signing.dumps(signing.loads(token, salt="backbeat_celery.completion")),
        lambda token: signing.dumps("x", salt="backbeat_celery.completion"),
        lambda token: signing.dumps(["default", 1, 1, 1], salt="backbeat_celery.completion"),
        lambda token: signing.dumps({}, salt="backbeat_celery.completion"),
        lambda token: token.encode(),
        lambda token: None,
    ],
)
def test_what_we_did_not_sign_is_refused(given, alter):
    node, (token,) = given
    with pytest.raises(BadToken):
        complete_by_token(alter(token))
    assert fresh(node).status == "running"


def test_a_token_may_be_too_old(given, monkeypatch):
    node, (token,) = given
    with pytest.raises(BadToken, match="old"):
        complete_by_token(token, max_age=-1)
    complete_by_token(token, max_age=60)
    assert fresh(node).status == "complete"


def test_a_key_that_was_replaced_still_counts_while_it_is_listed(given, settings):
    node, (token,) = given
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", []
    with pytest.raises(BadToken):
        complete_by_token(token)
    settings.SECRET_KEY_FALLBACKS = ["tests"]
    complete_by_token(token)
    assert fresh(node).status == "complete"


def test_a_result_that_cannot_be_kept_leaves_the_token_good(given):
    node, (token,) = given
    with pytest.raises(BadPayload):
        complete_by_token(token, {1})
    complete_by_token(token, 1)
    assert fresh(node).status == "complete"


def test_a_node_that_is_gone(given):
    node, (token,) = given
    node.workflow.delete()
    with pytest.raises(StaleAttempt, match="deleted"):
        complete_by_token(token)


def test_an_ordinary_node_has_no_token(script, send):
    def work(_):
        with pytest.raises(UnsupportedOption, match="awaits_completion"):
            current_node().completion_token()

    script(work)
    assert send(workflows.scripted).status == "complete"


def test_a_url_takes_a_result(sim, given, post):
    node, (token,) = given
    answer = post(token, {"result": {"paid": True}})
    assert (answer.status_code, answer.json()) == (200, {"detail": "Recorded."})
    assert (fresh(node).status, node.result) == ("complete", {"paid": True})
    assert post(token, {"result": 1}).status_code == 409


def test_a_url_takes_an_error(given, post):
    node, (token,) = given
    assert post(token, {"error": "declined"}).status_code == 200
    assert (fresh(node).status, node.error) == ("retrying", "declined")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        ("{", 400),
        ("7", 400),
        ("[]", 400),
        ("{}", 400),
        (b"\xff\xfe\x00", 400),
        ("[" * 100_000, 400),
        ({"other": 1}, 400),
        ({"result": 1, "error": "x"}, 400),
        ({"error": 7}, 400),
        ({"error": None}, 400),
        ('{"result": NaN}', 400),
        ({"result": {"__type__": "nonsense", "__value__": 1}}, 400),
        ({"result": "x" * 300_000}, 413),
        (b"x" * 4_000_000, 413),
    ],
)
def test_a_url_refuses_what_it_cannot_use(given, post, body, status):
    node, (token,) = given
    answer = post(token, body)
    assert answer.status_code == status
    assert answer.json()["detail"]
    assert (fresh(node).status, node.attempt) == ("running", 1)


def test_a_url_refuses_what_django_itself_finds_too_large(given, post, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    assert post(given[1][0], {"result": "x" * 200}).status_code == 413


@pytest.mark.parametrize("method", ["get", "put", "delete", "patch", "head"])
def test_a_url_takes_posts_only(given, method, caplog):
    node, (token,) = given
    url = reverse("backbeat_celery:complete", args=[token])
    with caplog.at_level(logging.DEBUG):
        answer = getattr(Client(), method)(url)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert fresh(node).status == "running"
    assert token not in caplog.text


def test_a_url_does_not_know_other_tokens(post, given):
    assert post(given[1][0] + "x", {"result": 1}).status_code == 404
    assert Node.objects.get(pk=given[0].pk).status == "running"


def test_no_log_has_a_token_that_is_still_good(given, post, caplog):
    _, (token,) = given
    with caplog.at_level(logging.DEBUG):
        assert post(token, "{").status_code == 400
        assert post(token, {"result": "x" * 300_000}).status_code == 413
        assert post(token, {"result": 1}).status_code == 200
    assert token not in caplog.text

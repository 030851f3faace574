"""Completion tokens: whoever holds one may report one attempt, once, and no other."""

from __future__ import annotations

import json
import logging
import sys

import pytest
from django.core import signing
from django.db import OperationalError, connection
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import include, path, reverse
from django.utils.log import AdminEmailHandler
from django.views.debug import ExceptionReporter

from backbeat_celery import complete_by_token, current_node, fail_by_token, signal
from backbeat_celery.exceptions import BadPayload, BadToken, StaleAttempt, UnsupportedOption
from backbeat_celery.inputs import tokens
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
        ({"result": "\u65e5" * 90_000}, 413),
        (b"x" * 4_000_000, 413),
    ],
)
def test_a_url_refuses_what_it_cannot_use(given, post, body, status):
    node, (token,) = given
    answer = post(token, body)
    assert answer.status_code == status
    assert answer.json()["detail"]
    assert (fresh(node).status, node.attempt) == ("running", 1)


def test_a_url_takes_escaped_letters_for_what_they_are(given, post):
    """Most clients escape them, and make three bytes of each that is meant."""
    node, (token,) = given
    result = "\u65e5" * 80_000
    assert len(json.dumps(result)) > 262_144 > len(result.encode())
    assert post(token, json.dumps({"result": result})).status_code == 200
    assert fresh(node).result == result


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


FAULTS = {
    "database": (OperationalError("the server is gone"), 503),
    "ours": (AttributeError("a bug of ours"), 500),
}


@pytest.fixture
def mails(settings, mailoutbox, admins):
    """What ADMINS get of the errors that Django and this package log, with all variables."""
    settings.ADMINS = admins
    settings.ALLOWED_HOSTS = ["*"]
    handler = AdminEmailHandler(include_html=True)
    loggers = [logging.getLogger(name) for name in ("django.request", "backbeat_celery")]
    for logger in loggers:
        logger.addHandler(handler)
    yield mailoutbox
    for logger in loggers:
        logger.removeHandler(handler)


def told(mail):
    return "\n".join([mail.subject, mail.body, *(str(text) for text, _ in mail.alternatives)])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("place", ["url", "header"])
@pytest.mark.parametrize("body", [{"result": 1}, {"error": "declined"}])
def test_no_error_report_has_the_token(given, mails, caplog, monkeypatch, fault, place, body):
    node, (token,) = given
    cause, status = FAULTS[fault]

    def broken(*args, **kwargs):
        raise cause

    monkeypatch.setattr("backbeat_celery.verbs.reports.record_report", broken)
    client = Client(raise_request_exception=False)
    said = {"content_type": "application/json"}
    if place == "header":
        said["headers"] = {"authorization": f"Bearer {token}"}
    url = reverse("backbeat_celery:complete", args=[token] if place == "url" else [])
    with caplog.at_level(logging.DEBUG):
        answer = client.post(url, body, **said)
    assert answer.status_code == status
    assert "could not be recorded" in answer.json()["detail"]
    assert token not in caplog.text
    (record,) = [record for record in caplog.records if record.name == "backbeat_celery.views"]
    assert (record.levelname, record.node_id, record.attempt) == ("ERROR", node.pk, 1)
    (mail,) = mails
    assert str(node.pk) in told(mail)
    assert token not in told(mail)
    monkeypatch.undo()
    assert Client().post(url, body, **said).status_code == 200


def _broken_after_the_view(get_response):
    def middleware(request):
        get_response(request)
        raise RuntimeError("after the view")

    return middleware


@pytest.mark.parametrize("quoted", [False, True])
def test_an_error_of_a_middleware_after_the_view_has_no_token(
    given, mails, caplog, settings, quoted
):
    node, (token,) = given
    settings.MIDDLEWARE = [f"{__name__}._broken_after_the_view"]
    url = reverse("backbeat_celery:complete", args=[token])
    uri = {"REQUEST_URI": url.replace(":", "%3A") if quoted else url}
    client = Client(raise_request_exception=False)
    with caplog.at_level(logging.DEBUG):
        answer = client.post(url, {"result": 1}, content_type="application/json", **uri)
    assert answer.status_code == 500
    assert fresh(node).status == "complete"
    assert mails
    for text in (caplog.text, *map(told, mails)):
        assert "after the view" in text
        assert token not in text
        assert token.replace(":", "%3A") not in text


@pytest.mark.django_db(transaction=True)
def test_a_report_is_committed_before_the_answer(backbeat, monkeypatch):
    """With ATOMIC_REQUESTS Django would commit, and fail, after the view."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    node = signal(workflows.awaiting.s(), subject="camera")
    backbeat.run()
    assert fresh(node).status == "running"
    token = tokens.sign(tokens.Ticket("default", node.pk, 1, node.claim_id))
    monkeypatch.setattr(
        "backbeat_celery.views._answer",
        lambda status, sentence: HttpResponse(f"{status} {connection.in_atomic_block}"),
    )
    url = reverse("backbeat_celery:complete", args=[token])
    answer = Client().post(url, {"result": 1}, content_type="application/json")
    assert answer.content == b"200 False"


@pytest.mark.parametrize("header", ["Bearer {}", "bearer  {}"])
def test_a_header_takes_the_place_of_the_url(given, header):
    node, (token,) = given
    url = reverse("backbeat_celery:complete")
    said = {"content_type": "application/json"}
    for wrong in ("", "Basic {}", "Bearer", "{}"):
        headers = {"authorization": wrong.format(token)}
        assert Client().post(url, {"result": 1}, headers=headers, **said).status_code == 404
    headers = {"authorization": header.format(token)}
    assert Client().post(url, {"result": 1}, headers=headers, **said).status_code == 200
    assert fresh(node).status == "complete"


def test_an_error_in_a_view_of_ones_own_has_no_token(given, monkeypatch, settings):
    _, (token,) = given

    def broken(*args, **kwargs):
        raise OperationalError("the server is gone")

    monkeypatch.setattr("backbeat_celery.verbs.reports.record_report", broken)
    for call in (complete_by_token, fail_by_token):
        try:
            call(token, "x")
        except OperationalError:
            settings.DEBUG = False
            page = ExceptionReporter(RequestFactory().post("/"), *sys.exc_info())
            frames = page.get_traceback_data()["frames"]
    ours = [f for f in frames if f["filename"].find("/backbeat_celery/") > 0]
    assert len(ours) > 1
    assert token not in repr([frame["vars"] for frame in ours])

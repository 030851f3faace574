"""`MAIL_ADMINS`: a mail for each node that fails, without its secrets."""

from __future__ import annotations

import logging
from uuid import uuid4

import pytest
from django.core import mail as django_mail

from backbeat_celery import signal, tasks
from backbeat_celery.engine.delivery.outbox import BrokerOutbox
from backbeat_celery.models import Node
from backbeat_celery.notifications import mail
from tests import workflows


@pytest.fixture(autouse=True)
def mailing(settings, admins):
    settings.ADMINS = admins
    settings.BACKBEAT = {"MAIL_ADMINS": True, "REDACT": ["card"]}


@pytest.fixture
def fail(sim, script):
    """Let a handler fail for good with an exception; give its node."""

    def run(exc, subject="camera 703", **kwargs):
        def work(task):
            raise exc

        script(work)
        workflows_task = workflows.scripted_with_limits
        node = signal(workflows_task.s(**kwargs), subject=subject)
        sim.run()
        node.refresh_from_db()
        assert node.status == "failed"
        return node

    return run


def test_a_failed_node_is_told_to_the_admins(sim, fail):
    node = fail(ValueError("card declined\nand more"))
    [message] = django_mail.outbox
    assert message.to == ["ada@example.com"]
    assert message.subject == (
        f"[Django] {workflows.scripted_with_limits.name} failed for camera 703"
    )
    for words in (
        "has failed: failed for good.",
        f"{workflows.scripted_with_limits.name} for camera 703, run 1",
        str(node.pk),
        "ValueError('card declined\\nand more')",
        "waits for an operator",
    ):
        assert words in message.body


def test_nothing_is_mailed_unless_asked_for(sim, fail, settings):
    settings.BACKBEAT = {}
    fail(ValueError("x"))
    assert django_mail.outbox == []


def test_a_retry_is_no_failure(sim):
    signal(workflows.flaky.s(1), subject="camera")
    sim.advance(hours=1)
    assert django_mail.outbox == []


def test_a_hidden_argument_does_not_appear_in_the_mail(sim):
    signal(workflows.revealing.s(card="4111-1111"), subject="camera")
    sim.run()
    [message] = django_mail.outbox
    assert "4111" not in message.body
    assert "ValueError('no *** here')" in message.body


def test_a_subject_with_line_breaks_makes_no_headers(sim, fail):
    fail(ValueError("x"), subject="camera\nBcc: eve@example.com")
    [message] = django_mail.outbox
    assert message.subject.endswith("failed for camera Bcc: eve@example.com")


def test_a_node_that_goes_on_meanwhile_is_told_so(sim, fail):
    node = fail(ValueError("x"))
    Node.objects.filter(pk=node.pk).update(status="queued")
    tasks.mail_failure(str(node.pk), "default")
    assert "It is now queued." in django_mail.outbox[-1].body


def test_a_node_that_is_gone_is_not_written_about(db):
    tasks.mail_failure(str(uuid4()), "default")
    assert django_mail.outbox == []


def test_the_admins_page_is_linked_if_there_is_one(monkeypatch):
    node = Node()
    monkeypatch.setattr(mail.apps, "is_installed", lambda name: False)
    assert mail.admin_path(node) == ""
    monkeypatch.setattr(mail.apps, "is_installed", lambda name: True)
    monkeypatch.setattr(mail, "reverse", lambda name, args: f"/admin/{name}/{args[0]}/")
    assert mail.admin_path(node).startswith("/admin/admin:backbeat_celery_node_change/")

    def missing(name, args):
        raise mail.NoReverseMatch

    monkeypatch.setattr(mail, "reverse", missing)
    assert mail.admin_path(node) == ""


def test_a_mail_server_that_is_down_is_tried_again():
    assert tasks.mail_failure.max_retries == 5
    assert OSError in tasks.mail_failure.autoretry_for


def test_a_broker_that_is_down_is_logged_and_stops_nothing(monkeypatch, caplog):
    from celery import current_app

    monkeypatch.setattr(current_app.conf, "broker_url", "amqp://127.0.0.1:1//")
    box = BrokerOutbox()
    with caplog.at_level(logging.WARNING):
        box.call_task("backbeat.mail_failure", node_id="x", using="default")
        box.call_task("backbeat.mail_failure", node_id="y", using="default")
    assert caplog.text.count("did not take a message for backbeat.mail_failure") == 2

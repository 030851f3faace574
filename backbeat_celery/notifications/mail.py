"""Send a mail to the project's ADMINS when a node has failed, if `MAIL_ADMINS` is on.

A task sends the mail, so that the engine never waits for a mail server. Like the signal
`node_failed`, a mail is sent at most once.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.apps import apps
from django.core.mail import mail_admins
from django.urls import NoReverseMatch, reverse

from backbeat_celery.conf import settings
from backbeat_celery.engine.delivery.outbox import outbox
from backbeat_celery.inputs.redaction import error_of
from backbeat_celery.models import Node
from backbeat_celery.runtime.text import one_line
from backbeat_celery.signals import node_failed
from backbeat_celery.states import Status

LONGEST_LINE = 200

BODY = """\
{name} has failed: {reason}.

workflow   {workflow}
node       {id}
attempts   {attempt}
worker     {worker}
error      {error}

{advice}
"""
ADVICE = """\
It waits for an operator or a rescue handler. Its parent keeps waiting, and its later siblings
if it is blocking. The node's attempts have the traceback.{link}"""


def connect() -> None:
    """Connect the receiver of `node_failed`."""
    node_failed.connect(on_node_failed, dispatch_uid="backbeat_celery.notifications.mail")


def on_node_failed(node: Node, **_: Any) -> None:
    """Have a worker send the mail."""
    if settings.mail_admins:
        outbox().call_task("backbeat.mail_failure", node_id=str(node.pk), using=node.alias)


def send(node_id: UUID, using: str) -> None:
    """Send the mail, unless the node was deleted."""
    node = Node.objects.using(using).select_related("workflow").filter(pk=node_id).first()
    if node is not None:
        subject = f"{node.name} failed for {node.workflow.subject}"
        mail_admins(one_line(subject, LONGEST_LINE), body(node))


def body(node: Node) -> str:
    """Write the text of the mail, which contains no arguments."""
    failures = node.transitions.filter(to_status=Status.FAILED).order_by("-pk")
    reason = failures.values_list("reason", flat=True).first()
    return BODY.format(
        name=one_line(node.name, LONGEST_LINE),
        reason=reason or "its retries are exhausted",
        workflow=one_line(str(node.workflow), LONGEST_LINE),
        id=node.pk,
        attempt=node.attempt,
        worker=node.worker or "none",
        error=one_line(_first_line(error_of(node)), LONGEST_LINE),
        advice=_advice(node),
    )


def _advice(node: Node) -> str:
    if node.status != Status.FAILED:
        return f"It is now {node.status}."
    path = admin_path(node)
    return ADVICE.format(link=f"\n\n{path}" if path else "")


def admin_path(node: Node) -> str:
    """Give the path of the node's page in the admin; empty if there is none."""
    if not apps.is_installed("django.contrib.admin"):
        return ""
    try:
        return reverse("admin:backbeat_celery_node_change", args=[node.pk])
    except NoReverseMatch:
        return ""


def _first_line(text: str | None) -> str:
    return next(iter((text or "").splitlines()), "") or "none"

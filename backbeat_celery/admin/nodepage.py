"""The page of a node: its explanation, arguments, result, attempts, history and related nodes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _

from backbeat_celery.admin import handed_values, markup
from backbeat_celery.admin.treepage import ancestors, mode_tags
from backbeat_celery.admin.values import Value, cut, pretty
from backbeat_celery.admin.visibility import Visibility
from backbeat_celery.engine.after_commit import message_options
from backbeat_celery.engine.values import all_secrets
from backbeat_celery.inputs.policy import policy_for
from backbeat_celery.inputs.redaction import (
    given_arguments,
    redact,
    redact_args,
    redact_kwargs,
    scrub,
)
from backbeat_celery.inspection.tree import attempts, history
from backbeat_celery.models import Attempt, Link, Node, Transition
from backbeat_celery.states import CLAIMABLE, Status

NEAR = 5
"""Siblings listed before and after a node."""

MOST = 200
"""Attempts and transitions that are listed: the latest."""


@dataclass(frozen=True, slots=True)
class RenderedAttempt:
    """An attempt as the page shows it."""

    attempt: Attempt
    error: str
    traceback: Value
    took: Any


def context(request: HttpRequest, node: Node, admin: Any) -> dict[str, Any]:
    """Give the template context of the page."""
    node = Node.objects.using(node.alias).select_related("workflow").get(pk=node.pk)
    whole = "whole" in request.GET and may_see_all(request)
    visibility: Visibility = admin.visibility(request)
    secrets = all_secrets(node)
    parent = node.parent
    now = markup.engine_now()
    return {
        "title": markup.short_name(node.name),
        "subtitle": None,
        "node": node,
        "original": node,
        "workflow": node.workflow,
        "why": scrub(visibility.explain(node), secrets),
        "above": ancestors(node, visibility),
        "siblings": _near(node, visibility),
        "children": _children(node, visibility),
        "links": _links(node, visibility),
        "tags": mode_tags(node, parent),
        "source": handed_values.source(node, visibility),
        "callbacks": handed_values.callbacks(node),
        "celery_id": scrub(node.celery_id, secrets),
        "values": _values(node, secrets, whole) + _handed(node, visibility, secrets, whole),
        "whole": whole,
        "may_see_all": may_see_all(request),
        "attempts": _attempts(node, secrets, whole, now),
        "history": _history(node, secrets),
        "progress": _progress(node, secrets),
        "key": scrub(node.key, secrets),
        "retry_plan": _retry_plan(node),
        "took": _took(node, now),
        "due": node.fires_at if node.status in CLAIMABLE else None,
        # Counts could include nodes that the user may not see.
        "is_narrow": visibility.is_narrow,
        "tools": admin.tools_of(request, node),
        "can_view_workflow": visibility.may_view_workflows,
    }


def may_see_all(request: HttpRequest) -> bool:
    """Tell whether the user may see long values in full."""
    return bool(request.user.has_perm("backbeat_celery.view_payload_node"))


def _values(node: Node, secrets: set[str], whole: bool) -> list[tuple[str, Value]]:
    rows = [
        (_("Arguments"), redact_args(node.task, node.args, given=given_arguments(node))),
        (_("Keyword arguments"), redact_kwargs(node.task, node.kwargs)),
        (_("Result"), redact(node.result)),
        (_("Metadata"), redact(node.metadata)),
        (_("Options"), redact(message_options(node))),
    ]
    texts = [
        (label, scrub(pretty(value), secrets))
        for label, value in rows
        if value not in ({}, None, [])
    ]
    if node.error:
        texts.append((_("Error"), scrub(node.error, secrets)))
    return [(label, cut(text, whole=whole)) for label, text in texts]


def _handed(
    node: Node, visibility: Visibility, secrets: set[str], whole: bool
) -> list[tuple[str, Value]]:
    """Give the value that a node hands on if it is that of other nodes."""
    found = handed_values.value(node, visibility)
    if found is None:
        return []
    value, theirs = found
    return [(_("Value"), cut(scrub(pretty(value), secrets | theirs), whole=whole))]


def _attempts(node: Node, secrets: set[str], whole: bool, now: datetime) -> list[RenderedAttempt]:
    return [
        RenderedAttempt(
            attempt,
            scrub(attempt.error, secrets),
            cut(scrub(attempt.traceback, secrets), whole=whole),
            markup.lasting(attempt.started_at, attempt.finished_at, now),
        )
        for attempt in reversed(attempts(node, MOST))
    ]


def _history(node: Node, secrets: set[str]) -> list[tuple[Transition, str]]:
    return [(step, scrub(step.reason, secrets)) for step in reversed(history(node, MOST))]


def _near(node: Node, visibility: Visibility) -> list[Node]:
    """Give the siblings next to a node, itself included."""
    if node.parent_id is None:
        return []
    siblings = Node.objects.using(node.alias).children_of(node.parent_id).without_payload()
    near = siblings.filter(seq__gte=max(0, node.seq - NEAR), seq__lte=node.seq + NEAR)
    return list(visibility.nodes(near).order_by("seq"))


def _children(node: Node, visibility: Visibility) -> list[Node]:
    children = Node.objects.using(node.alias).children_of(node.pk).without_payload()
    return list(visibility.nodes(children).order_by("seq")[: 2 * NEAR])


def _links(node: Node, visibility: Visibility) -> list[tuple[str, Node]]:
    """Give the linked nodes that this one waits for, and those that wait for it."""
    links = Link.objects.using(node.alias)
    there = links.filter(source=node.pk).select_related("target__workflow")[: 4 * NEAR]
    here = links.filter(target=node.pk).select_related("source__workflow")[: 4 * NEAR]
    found = [(_("waits for"), link.target) for link in there]
    found += [(_("is awaited by"), link.source) for link in here]
    seen = {node.pk for node in visibility.seen([other for _kind, other in found])}
    return [(kind, other) for kind, other in found if other.pk in seen]


def _took(node: Node, now: datetime) -> Any:
    """Format how long the last attempt and its subtree took, or have taken so far."""
    if node.is_finished or node.status in {Status.RUNNING, Status.WAITING}:
        return markup.lasting(node.started_at, node.finished_at, now)
    return ""


def _progress(node: Node, secrets: set[str]) -> dict[str, Any] | None:
    """Give the progress that the handler reported."""
    reported = node.progress
    if not isinstance(reported, dict):
        return None
    done, total = reported.get("done"), reported.get("total")
    percent = None
    if isinstance(done, (int, float)) and isinstance(total, (int, float)) and total > 0:
        percent = min(100, round(100 * done / total))
    return {
        "done": done,
        "total": total,
        "message": scrub(reported.get("message"), secrets),
        "percent": percent,
    }


def _retry_plan(node: Node) -> str:
    """Describe what happens after the next failure, according to the retry policy."""
    if node.is_finished or node.is_flag or node.status == Status.WAITING:
        return ""
    policy = policy_for(node)
    if policy.retried == ():
        return _("%d failed; retried only if the task calls retry()") % node.retries
    limit = _("no limit") if policy.max_retries is None else _("limit %d") % policy.max_retries
    words = {"used": node.retries, "limit": limit}
    if node.status == Status.FAILED:
        return _("%(used)d failed, %(limit)s") % words
    if policy.is_exhausted(node.retries + 1):
        return _("%(used)d failed, %(limit)s; the next failure is the last") % words
    words["wait"] = markup.duration(policy.delay_without_jitter(node.retries + 1))
    if policy.jitter:
        return _("%(used)d failed, %(limit)s; the next wait is about %(wait)s") % words
    return _("%(used)d failed, %(limit)s; the next wait is %(wait)s") % words

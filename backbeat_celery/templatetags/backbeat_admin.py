"""Tags and filters of the admin's templates.

Django imports this module in every project that renders a template, also where the admin is
not installed; so the admin is imported at the first use.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template

from backbeat_celery.late import late
from backbeat_celery.models import Node

register = template.Library()

_badge = late("backbeat_celery.admin.markup", "status_badge")
_outcome = late("backbeat_celery.admin.markup", "outcome_badge")
_short = late("backbeat_celery.admin.markup", "short_name")
_ago = late("backbeat_celery.admin.markup", "ago")
_moment = late("backbeat_celery.admin.markup", "moment")
_between = late("backbeat_celery.admin.markup", "between")
_tags = late("backbeat_celery.admin.treepage", "mode_tags")
_overview = late("backbeat_celery.admin.overview", "overview")


@register.filter
def bb_status(node: Node) -> Any:
    """The status of a node with its sign."""
    outcome = node.outcome if node.outcome not in {"", "succeeded"} else ""
    return _badge(node.status, f"({outcome})" if outcome else "")


@register.filter
def bb_badge(status: str) -> Any:
    """A status with its sign."""
    return _badge(status)


@register.filter
def bb_outcome(outcome: str) -> Any:
    """How an attempt ended, with a sign."""
    return _outcome(outcome)


@register.filter
def bb_short(name: str) -> Any:
    """The name of a task without its module."""
    return _short(name)


@register.filter
def bb_tags(node: Node) -> Any:
    """What is special about a node."""
    return _tags(node)


@register.filter
def bb_ago(at: datetime | None) -> Any:
    """How long ago something was."""
    return _ago(at)


@register.filter
def bb_moment(at: datetime | None) -> Any:
    """A point in time, to the second."""
    return _moment(at)


@register.filter
def bb_until(start: datetime | None, end: datetime | None) -> Any:
    """The time from one moment to another."""
    return _between(start, end)


@register.simple_tag(takes_context=True)
def bb_overview(context: Any) -> Any:
    """The numbers of the overview page that the user may see."""
    return _overview(context["request"])

"""Tags and filters of the admin's templates.

Django imports this module in every project that renders a template, also where the admin is
not installed; so the admin is imported at the first use.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template

from backbeat_celery.models import Node

register = template.Library()


@register.filter
def bb_status(node: Node) -> Any:
    """The status of a node with its sign."""
    outcome = node.outcome if node.outcome not in {"", "succeeded"} else ""
    from backbeat_celery.admin.markup import status_badge

    return status_badge(node.status, f"({outcome})" if outcome else "")


@register.filter
def bb_badge(status: str) -> Any:
    """A status with its sign."""
    from backbeat_celery.admin.markup import status_badge

    return status_badge(status)


@register.filter
def bb_outcome(outcome: str) -> Any:
    """How an attempt ended, with a sign."""
    from backbeat_celery.admin.markup import outcome_badge

    return outcome_badge(outcome)


@register.filter
def bb_short(name: str) -> Any:
    """The name of a task without its module."""
    from backbeat_celery.admin.markup import short_name

    return short_name(name)


@register.filter
def bb_tags(node: Node) -> Any:
    """What is special about a node."""
    from backbeat_celery.admin.treepage import mode_tags

    return mode_tags(node)


@register.filter
def bb_ago(at: datetime | None) -> Any:
    """How long ago something was."""
    from backbeat_celery.admin.markup import ago

    return ago(at)


@register.filter
def bb_moment(at: datetime | None) -> Any:
    """A point in time, to the second."""
    from backbeat_celery.admin.markup import moment

    return moment(at)


@register.filter
def bb_until(start: datetime | None, end: datetime | None) -> Any:
    """The time from one moment to another."""
    from backbeat_celery.admin.markup import between

    return between(start, end)


@register.simple_tag(takes_context=True)
def bb_overview(context: Any) -> Any:
    """The numbers of the overview page that the user may see."""
    from backbeat_celery.admin.overview import overview

    return overview(context["request"])

"""Times, statuses and subjects as small pieces of escaped HTML."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.contrib.admin import AdminSite
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from backbeat_celery.inspection.tree import SIGNS
from backbeat_celery.runtime import clock
from backbeat_celery.states import AttemptOutcome, Status

MINUTE, HOUR, DAY = 60, 3600, 86400
# Some systems draw the sign of `paused` as a coloured emoji.
ADMIN_SIGNS = {**{str(k): v for k, v in SIGNS.items()}, "paused": "‖"}


def engine_now() -> datetime:
    """Give the current time for ages: the Simulation's in tests."""
    return clock.simulated_now() if clock.is_simulated() else timezone.now()


def duration(seconds: float) -> str:
    """Format a duration in its two largest units: `1 h 12 min`."""
    if seconds < 0.001:
        return _("0 s")
    if seconds < 1:
        return _("%d ms") % round(seconds * 1000)
    if seconds < 10:
        return _("%.1f s") % seconds
    if seconds < MINUTE:
        return _("%d s") % seconds
    if seconds >= 10 * MINUTE and seconds < HOUR:
        return _("%d min") % (seconds // MINUTE)
    if seconds < HOUR:
        return _("%(m)d min %(s)d s") % {"m": seconds // MINUTE, "s": seconds % MINUTE}
    if seconds < DAY:
        return _("%(h)d h %(m)d min") % {"h": seconds // HOUR, "m": seconds % HOUR // MINUTE}
    return _("%(d)d d %(h)d h") % {"d": seconds // DAY, "h": seconds % DAY // HOUR}


def between(start: datetime | None, end: datetime | None) -> str:
    """Format the time between two moments."""
    if start is None or end is None:
        return ""
    return duration(max(timedelta(), end - start).total_seconds())


def short_name(name: str) -> str:
    """Give the name of a task without its module; other names are unchanged."""
    short = name.rpartition(".")[2]
    return short if short.isidentifier() else name


def moment(at: datetime | None) -> str:
    """Format a point in time, to the second."""
    return "" if at is None else timezone.localtime(at).strftime("%Y-%m-%d %H:%M:%S")


def ago(at: datetime | None, now: datetime | None = None) -> SafeString | str:
    """Format how long ago something was, with the time itself in the title."""
    if at is None:
        return "–"
    now = now or engine_now()
    seconds = (now - at).total_seconds()
    text = _("%s ago") if seconds >= 0 else _("in %s")
    kind = "ago" if seconds >= 0 else "in"
    return _time(at, text % duration(abs(seconds)), kind)


def age(at: datetime | None, now: datetime | None = None) -> SafeString | str:
    """Format how long ago something was in one unit, for a narrow column."""
    if at is None:
        return "–"
    seconds = max(0.0, ((now or engine_now()) - at).total_seconds())
    units = [(DAY, _("%d d")), (HOUR, _("%d h")), (MINUTE, _("%d min")), (1, _("%d s"))]
    unit, text = next((pair for pair in units if seconds >= pair[0]), units[-1])
    return _time(at, text % (seconds // unit), "age")


def lasting(start: datetime | None, end: datetime | None, now: datetime) -> SafeString | str:
    """Format how long something took, or has taken so far."""
    if start is None:
        return ""
    if end is not None:
        return between(start, end)
    return _time(start, between(start, now), "for")


def _time(at: datetime, text: str, kind: str) -> SafeString:
    return format_html(
        '<time datetime="{}" title="{}" data-bb-time="{}">{}</time>',
        at.isoformat(),
        moment(at),
        kind,
        text,
    )


def status_badge(status: str, note: str = "") -> SafeString:
    """Render a status with sign and label, so that colour is not the only difference."""
    label = Status(status).label if status in Status.values else status
    sign = ADMIN_SIGNS.get(status, "•")
    return badge(status, sign, f"{label} {note}".strip())


OUTCOME_SIGNS = {"succeeded": "✔", "failed": "✖", "timed_out": "✖", "lost": "?", "given_back": "↩"}


def outcome_badge(outcome: str) -> SafeString:
    """Render an attempt's outcome with its sign."""
    return badge(outcome, OUTCOME_SIGNS.get(outcome, "⊘"), str(AttemptOutcome(outcome).label))


def badge(kind: str, sign: str, text: str) -> SafeString:
    """Render a text with a sign before it."""
    return format_html(
        '<span class="bb-badge bb-{}"><span class="bb-sign" aria-hidden="true">{}</span>{}</span>',
        kind,
        sign,
        text,
    )


def workflow_link(pk: Any, text: str, site: AdminSite) -> SafeString:
    """Render a link to a workflow's page."""
    url = reverse("admin:backbeat_celery_workflow_change", args=[pk], current_app=site.name)
    return format_html('<a href="{}">{}</a>', url, text)


def subject_object(subject: str) -> tuple[type[Model], Any] | None:
    """Give the model and primary key that a subject names, or None."""
    label, colon, pk = subject.partition(":")
    if not colon or not pk:
        return None
    try:
        model = apps.get_model(label)
        return model, model._meta.pk.to_python(pk)
    except (LookupError, ValueError, ValidationError):
        return None


def subject_link(subject: str, request: HttpRequest, site: AdminSite) -> SafeString | str:
    """Render the subject, linked to its object's page if the user may view that."""
    found = subject_object(subject)
    if found is None:
        return subject
    model, pk = found
    registered = site._registry.get(model)
    if registered is None or not registered.has_view_or_change_permission(request):
        return subject
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"
    try:
        url = reverse(name, args=[pk], current_app=site.name)
    except NoReverseMatch:
        return subject
    return format_html('<a href="{}">{}</a>', url, subject)

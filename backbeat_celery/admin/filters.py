"""Filters of the lists. Each uses an index, and each can be bookmarked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from backbeat_celery.admin.markup import engine_now
from backbeat_celery.admin.visibility import Visibility
from backbeat_celery.models import Node, Workflow, node_alias
from backbeat_celery.states import FINISHED, UNFINISHED, Status

MOST_NAMES = 20
"""Names offered in a filter; the search finds others."""


class StateFilter(admin.SimpleListFilter):
    """Workflows by state."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("open", _("Not finished")),
            ("paused", _("Paused")),
            ("closed", _("Closed, not finished")),
            ("finished", _("Finished")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        conditions = {
            "open": Q(unfinished=True),
            "paused": Q(unfinished=True, paused_at__isnull=False),
            "closed": Q(unfinished=True, closed_at__isnull=False),
            "finished": Q(unfinished=None),
        }
        return queryset.filter(conditions.get(self.value() or "", Q()))


class VisibleRowsFilter(admin.SimpleListFilter):
    """A filter that reads rows itself, and only rows that the user may see."""

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        self.visibility = Visibility(request, model_admin.admin_site)
        super().__init__(request, params, model, model_admin)


class FailuresFilter(VisibleRowsFilter):
    """Workflows with failed or retrying nodes."""

    title = _("failures")
    parameter_name = "failures"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("failed", _("Has failed nodes")), ("retrying", _("Has retrying nodes"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in {Status.FAILED, Status.RETRYING}:
            return queryset
        nodes = self.visibility.nodes(Node.objects.unfinished().filter(status=self.value()))
        return queryset.filter(unfinished=True, pk__in=nodes.values("workflow"))


class StuckFilter(VisibleRowsFilter):
    """Workflows with open nodes and no activity for a while."""

    title = _("time without activity")
    parameter_name = "stuck"
    minutes = {"10m": 10, "1h": 60, "6h": 360, "1d": 1440, "7d": 10080}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("10m", _("Over 10 minutes")),
            ("1h", _("Over an hour")),
            ("6h", _("Over 6 hours")),
            ("1d", _("Over a day")),
            ("7d", _("Over a week")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in self.minutes:
            return queryset
        since = engine_now() - timedelta(minutes=self.minutes[str(self.value())])
        nodes: Any = self.visibility.nodes(Node.objects.filter(workflow=OuterRef("pk")))
        fresh = Q(created_at__gt=since) | Q(started_at__gt=since)
        return queryset.filter(
            Exists(nodes.unfinished().filter(parent__isnull=False)),
            ~Exists(nodes.unfinished().filter(fresh)),
            ~Exists(nodes.filter(finished_at__gt=since)),
            unfinished=True,
            created_at__lte=since,
        )


class NameFilter(VisibleRowsFilter):
    """Workflows of one name. Names are read one by one from their index."""

    title = _("name")
    parameter_name = "name"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(name, name) for name in _names(self.visibility)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(name=self.value()) if self.value() else queryset


def _names(visibility: Visibility) -> Iterator[str]:
    workflows = visibility.workflows(Workflow.objects.using(node_alias()))
    names = workflows.order_by("name").values_list("name", flat=True)
    name: str | None = ""
    for _number in range(MOST_NAMES):
        name = names.filter(name__gt=name).first()
        if name is None:
            return
        yield name


class StatusFilter(admin.SimpleListFilter):
    """Nodes by status."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(Status.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() in FINISHED:
            return queryset.filter(status=self.value())
        if self.value() in UNFINISHED:
            # The second condition allows the index of open nodes.
            return queryset.filter(status=self.value(), finished_at=None)
        return queryset


class TroubleFilter(admin.SimpleListFilter):
    """Open nodes that may need attention."""

    title = _("open nodes")
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("all", _("All that are open")),
            ("lost", _("Lost by workers")),
            ("awaiting", _("Awaiting completion")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        conditions = {
            "all": Q(finished_at=None),
            "lost": Q(finished_at=None, lost_attempts__gt=0),
            "awaiting": Q(finished_at=None, awaits_completion=True),
        }
        return queryset.filter(conditions.get(self.value() or "", Q()))


class HandlerFilter(admin.SimpleListFilter):
    """Open nodes of one handler, chosen among the handlers of open nodes."""

    title = _("handler of open nodes")
    parameter_name = "handler"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        value = request.GET.get(self.parameter_name, "")
        return [(value, value)] if value else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        return queryset.filter(finished_at=None, name=self.value())

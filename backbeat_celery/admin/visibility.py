"""What a user may see: decided by the registered admins, for all pages.

A project shows some users a part of the workflows by an admin class that narrows
`get_queryset`. Everything that a page reads of workflows and nodes goes through here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

from django.contrib.admin import AdminSite
from django.contrib.admin.sites import all_sites
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from backbeat_celery.inspection.explain import explain
from backbeat_celery.models import Node, Workflow

F = TypeVar("F", bound=Callable[..., Any])


def shows_all(get_queryset: F) -> F:
    """Mark a `get_queryset` that hides nothing from users who may view the model."""
    get_queryset.shows_all = True  # type: ignore[attr-defined]
    return get_queryset


def site_of(request: HttpRequest) -> AdminSite:
    """Give the admin site of a request."""
    name = getattr(request, "current_app", None) or "admin"
    found: AdminSite = next(site for site in all_sites if site.name == name)
    return found


class Visibility:
    """What the user of a request may see of workflows and nodes on one admin site."""

    def __init__(self, request: HttpRequest, site: AdminSite) -> None:
        self._request = request
        self._registry: dict[Any, Any] = site._registry

    @cached_property
    def may_view_nodes(self) -> bool:
        return self._may_view(Node)

    @cached_property
    def may_view_workflows(self) -> bool:
        return self._may_view(Workflow)

    def _may_view(self, model: Any) -> bool:
        admin = self._registry.get(model)
        return admin is not None and bool(admin.has_view_permission(self._request))

    @property
    def is_narrow(self) -> bool:
        """Whether the project hides some rows."""
        return self._visible_nodes is not None or self._visible_workflows is not None

    def workflows(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Filter the workflows that are shown."""
        seen = self._visible_workflows
        return rows if seen is None else rows.filter(pk__in=seen.values("pk"))

    def nodes(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Filter the nodes that are shown; a root is shown with its workflow."""
        rows = self.nodes_of_workflows(rows)
        seen = self._visible_nodes
        return rows if seen is None else rows.filter(Q(parent=None) | Q(pk__in=seen.values("pk")))

    def nodes_of_workflows(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Filter the nodes whose workflows are shown."""
        seen = self._visible_workflows
        return rows if seen is None else rows.filter(workflow__in=seen.values("pk"))

    def attempts(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Filter the attempts whose nodes are shown."""
        if not self.is_narrow:
            return rows
        return rows.filter(node__in=self.nodes(Node.objects.using(rows.db)).values("pk"))

    def seen(self, nodes: list[Node]) -> list[Node]:
        """Filter a list of nodes by what is shown, and keep its order."""
        if not self.is_narrow or not nodes:
            return nodes
        rows = Node.objects.using(nodes[0].alias).filter(pk__in=[node.pk for node in nodes])
        shown = set(self.nodes(rows).values_list("pk", flat=True))
        return [node for node in nodes if node.pk in shown]

    def explain(self, node: Node) -> str:
        """Explain a node's status; empty if the user may not view nodes, since it quotes errors.

        Nodes that are not shown are not named.
        """
        if not self.may_view_nodes:
            return ""
        return explain(node, may_see=lambda other: bool(self.seen([other])))

    @cached_property
    def _visible_nodes(self) -> QuerySet[Any] | None:
        return self._narrowed(Node)

    @cached_property
    def _visible_workflows(self) -> QuerySet[Any] | None:
        return self._narrowed(Workflow)

    def _narrowed(self, model: Any) -> QuerySet[Any] | None:
        """Give the rows that the registered admin shows; None if it shows all."""
        admin = self._registry.get(model)
        if admin is None or getattr(type(admin).get_queryset, "shows_all", False):
            return None
        rows: QuerySet[Any] = admin.get_queryset(self._request).order_by()
        return rows

"""The list of nodes, and the page of one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backbeat_celery.admin import markup, nodepage
from backbeat_celery.admin.actions import NODE_ACTIONS
from backbeat_celery.admin.filters import HandlerFilter, StatusFilter, TroubleFilter
from backbeat_celery.admin.search import search_nodes
from backbeat_celery.admin.steering import SteeringAdmin
from backbeat_celery.models import Node


@admin.register(Node)
class NodeAdmin(SteeringAdmin):
    """Nodes of all workflows, newest first; roots are left out."""

    verbs = NODE_ACTIONS
    page_template = "admin/backbeat_celery/node/node.html"
    list_display = ("title", "place", "standing", "attempts", "due", "worker", "age")
    list_filter = (StatusFilter, TroubleFilter, HandlerFilter)
    search_fields = ("id",)
    search_help_text = gettext_lazy(
        "The beginning of a subject, or an id: a node's, a workflow's, or Celery's"
    )
    sortable_by = ("age",)
    costly_filters = ("handler", "open", "q")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        title = {"title": _("Nodes")}
        return super().changelist_view(request, {**title, **(extra_context or {})})

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        nodes: QuerySet[Any] = super().get_queryset(request).filter(parent__isnull=False)
        return nodes.select_related("workflow").defer("args", "kwargs", "result", "options")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return search_nodes(queryset, search_term), False

    @admin.display(description=gettext_lazy("name"))
    def title(self, node: Node) -> SafeString:
        return format_html('<span title="{}">{}</span>', node.name, markup.short_name(node.name))

    @admin.display(description=gettext_lazy("workflow"))
    def place(self, node: Node) -> SafeString:
        url = reverse(
            "admin:backbeat_celery_workflow_change",
            args=[node.workflow_id],
            current_app=self.admin_site.name,
        )
        return format_html('<a href="{}">{}</a>', url, node.workflow.subject)

    @admin.display(description=gettext_lazy("status"))
    def standing(self, node: Node) -> SafeString:
        return markup.status_badge(node.status)

    @admin.display(description=gettext_lazy("attempts"))
    def attempts(self, node: Node) -> str:
        failed = _(", %d failed") % node.retries if node.retries else ""
        return f"{node.attempt}{failed}"

    @admin.display(description=gettext_lazy("due"))
    def due(self, node: Node) -> SafeString | str:
        return markup.ago(node.fires_at) if node.fires_at and not node.is_finished else "–"

    @admin.display(description=gettext_lazy("age"), ordering="-id")
    def age(self, node: Node) -> SafeString | str:
        return markup.age(node.created_at)

    def page_context(self, request: HttpRequest, node: Node) -> dict[str, Any]:
        """Show all about one node."""
        return nodepage.context(request, node, self)

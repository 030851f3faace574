"""The list of nodes, and the page of one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backbeat_celery.admin import markup, nodepage
from backbeat_celery.admin.actions import NODE_ACTIONS
from backbeat_celery.admin.filters import HandlerFilter, StatusFilter, TroubleFilter
from backbeat_celery.admin.search import search_nodes
from backbeat_celery.admin.steering import SteeringAdmin
from backbeat_celery.admin.visibility import shows_all
from backbeat_celery.models import Node


@admin.register(Node)
class NodeAdmin(SteeringAdmin):
    """Nodes of all workflows, newest first; roots are left out."""

    verbs = NODE_ACTIONS
    page_template = "admin/backbeat_celery/node/node.html"
    list_display = ("title", "state", "attempts", "due", "worker", "age")
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

    linked_lookups = ("id__lt", "workflow__id__exact", "parent__id__exact")

    @shows_all
    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Read nodes of the workflows that the user may see."""
        rows = super().get_queryset(request).filter(parent__isnull=False)
        nodes = self.visibility(request).nodes_of_workflows(rows)
        return nodes.select_related("workflow").defer("args", "kwargs", "result", "options")

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Put the workflow second, linked to its page if the user may view that."""
        may_view = self.visibility(request).may_view_workflows

        @admin.display(description=gettext_lazy("workflow"))
        def place(node: Node) -> SafeString | str:
            subject = node.workflow.subject
            return (
                markup.workflow_link(node.workflow_id, subject, self.admin_site)
                if may_view
                else subject
            )

        title, *others = super().get_list_display(request)
        return [title, place, *others]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return search_nodes(queryset, search_term), False

    @admin.display(description=gettext_lazy("name"))
    def title(self, node: Node) -> SafeString:
        return format_html('<span title="{}">{}</span>', node.name, markup.short_name(node.name))

    @admin.display(description=gettext_lazy("status"))
    def state(self, node: Node) -> SafeString:
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
        """Give the template context of a node's page."""
        return nodepage.context(request, node, self)

"""The list of workflows, and the page of one: its tree."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backbeat_celery.admin import markup, treepage
from backbeat_celery.admin.actions import WORKFLOW_ACTIONS
from backbeat_celery.admin.filters import FailuresFilter, NameFilter, StateFilter, StuckFilter
from backbeat_celery.admin.search import search_workflows
from backbeat_celery.admin.steering import SteeringAdmin
from backbeat_celery.admin.summary import STATES, label, summaries
from backbeat_celery.models import Workflow


@admin.register(Workflow)
class WorkflowAdmin(SteeringAdmin):
    """Workflows, newest first."""

    verbs = WORKFLOW_ACTIONS
    page_template = "admin/backbeat_celery/workflow/tree.html"
    list_display = ("title", "state", "progress", "age", "last_activity")
    list_filter = (StateFilter, FailuresFilter, StuckFilter, NameFilter, "created_at")
    search_fields = ("subject",)
    search_help_text = gettext_lazy(
        "The beginning of a subject, a whole name, an id (also Celery's), or key=value of metadata"
    )
    sortable_by = ("age",)
    costly_filters = ("stuck", "failures")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        title = {"title": _("Workflows")}
        return super().changelist_view(request, {**title, **(extra_context or {})})

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Put the subject second, linked to its page if the user may view that."""

        @admin.display(description=gettext_lazy("subject"))
        def about(workflow: Workflow) -> SafeString | str:
            return markup.subject_link(workflow.subject, request, self.admin_site)

        title, *others = super().get_list_display(request)
        return [title, about, *others]

    def complete_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        found = summaries(rows, self.visibility(request))
        for row in rows:
            row.summary = found[row.pk]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return search_workflows(queryset, search_term, self.visibility(request)), False

    @admin.display(description=gettext_lazy("name"))
    def title(self, workflow: Workflow) -> str:
        return workflow.name if workflow.run == 1 else f"{workflow.name} #{workflow.run}"

    @admin.display(description=gettext_lazy("state"))
    def state(self, workflow: Workflow) -> SafeString:
        state = label(workflow, workflow.summary)  # type: ignore[attr-defined]
        return markup.badge(state, STATES[state], _(state))

    @admin.display(description=gettext_lazy("progress"))
    def progress(self, workflow: Workflow) -> SafeString:
        summary = workflow.summary  # type: ignore[attr-defined]
        return format_html(
            '<span class="bb-figure"><progress class="bb-progress" max="100" value="{}" '
            'aria-label="{}"></progress> {} / {}</span> {}',
            summary.percent,
            _("%d percent done") % summary.percent,
            summary.done,
            summary.total,
            markup.badge("failed", "✖", _("%d failed") % summary.failed) if summary.failed else "",
        )

    @admin.display(description=gettext_lazy("age"), ordering="-id")
    def age(self, workflow: Workflow) -> SafeString | str:
        return markup.age(workflow.created_at)

    @admin.display(description=gettext_lazy("last activity"))
    def last_activity(self, workflow: Workflow) -> SafeString | str:
        return markup.age(workflow.summary.last_at)  # type: ignore[attr-defined]

    def get_urls(self) -> list[URLPattern]:
        wrap, info = self.admin_site.admin_view, "backbeat_celery_workflow"
        mine = [
            path("<path:object_id>/live/", wrap(self.live_view), name=f"{info}_live"),
        ]
        return [*mine, *super().get_urls()]

    def page_context(self, request: HttpRequest, workflow: Workflow) -> dict[str, Any]:
        """Give the template context of the tree page."""
        return treepage.context(request, workflow, self)

    def live_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Give the changing part of the tree page, or 304."""
        workflow = self.find(request, object_id)
        if workflow is None:
            return HttpResponse(status=404)
        return treepage.live(request, workflow, self)

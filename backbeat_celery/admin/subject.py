"""Workflows on the admin page of their subject."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest

from backbeat_celery.admin import markup
from backbeat_celery.admin.summary import STATES, label, summaries
from backbeat_celery.admin.visibility import Visibility
from backbeat_celery.inputs.subject import subject_key
from backbeat_celery.models import Workflow, node_alias

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin

LATEST = 10
"""Workflows listed for one object."""


class BackbeatSubjectMixin(_ModelAdmin):
    """Shows an object's workflows on its own admin page: `class CameraAdmin(Mixin, ModelAdmin)`.

    Users who may not view workflows see the page unchanged.
    """

    change_form_template = "admin/backbeat_celery/subject_change_form.html"

    class Media:
        css = {"all": ["backbeat_celery/backbeat.css"]}

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> Any:
        visibility = Visibility(request, self.admin_site)
        if obj is not None and visibility.may_view_workflows:
            context["backbeat_workflows"] = workflows_of(obj, visibility)
        return super().render_change_form(request, context, add, change, form_url, obj)


def workflows_of(obj: Any, visibility: Visibility) -> list[dict[str, Any]]:
    """Give the latest workflows about an object that the user may see, with their states."""
    rows = Workflow.objects.using(node_alias()).filter(subject=subject_key(obj))
    workflows = list(visibility.workflows(rows).order_by("-pk")[:LATEST])
    found = summaries(workflows, visibility)
    lines = []
    for workflow in workflows:
        summary = found[workflow.pk]
        word = label(workflow, summary)
        state = markup.badge(word, STATES[word], word)
        lines.append({"workflow": workflow, "summary": summary, "state": state})
    return lines

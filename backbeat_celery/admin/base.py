"""What the admins of workflows and nodes share: fields are shown and never edited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.template.response import TemplateResponse

from backbeat_celery.admin import lookups, paging
from backbeat_celery.admin.paging import CappedPaginator, PagedChangeList
from backbeat_celery.admin.visibility import Visibility, shows_all
from backbeat_celery.models import node_alias
from backbeat_celery.runtime.compat.django import redirect_for_missing

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin


class ViewAdmin(_ModelAdmin):
    """A read-only admin: rows are never added or edited by hand."""

    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 50
    ordering = ("-id",)
    costly_filters: tuple[str, ...] = ()
    linked_lookups: tuple[str, ...] = ("id__lt",)
    """Lookups that our pages' links use on the list, in addition to those of its filters."""
    page_template = ""
    actions_selection_counter = True
    change_list_template = "admin/backbeat_celery/change_list.html"
    show_facets = admin.ShowFacets.NEVER

    class Media:
        css = {"all": ["backbeat_celery/backbeat.css"]}

    @shows_all
    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Read from the database that the engine writes to: a verb uses its row's database."""
        return super().get_queryset(request).using(node_alias())

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[PagedChangeList]:
        return PagedChangeList

    def get_paginator(
        self, request: HttpRequest, queryset: QuerySet[Any], per_page: int, *args: Any, **more: Any
    ) -> Any:
        paginator: Any = super().get_paginator(request, queryset, per_page, *args, **more)
        is_costly = any(name in request.GET for name in self.costly_filters)
        paginator.cap = paging.SMALL_CAP if is_costly else paging.CAP
        return paginator

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        """Allow the lookups of our filters and links; Django allows any on our columns."""
        return lookups.is_allowed(self, lookup, value, request)

    def to_field_allowed(self, request: HttpRequest, to_field: str) -> bool:
        """Let popups refer to rows by primary key only."""
        pk = self.opts.pk
        return pk is not None and to_field in {"pk", pk.name}

    def visibility(self, request: HttpRequest) -> Visibility:
        """Give what the user may see of workflows and nodes."""
        return Visibility(request, self.admin_site)

    def complete_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        """Add to the rows of a page what their columns show."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may(request, "view")

    def may(self, request: HttpRequest, what: str) -> bool:
        """Check a permission of the user on this model."""
        name = f"{self.opts.app_label}.{what}_{self.opts.model_name}"
        return bool(request.user.has_perm(name))

    def find(self, request: HttpRequest, object_id: str) -> Any:
        """Get the object of a page, or None; raise PermissionDenied if it may not be seen."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            obj = self.get_queryset(request).filter(pk=UUID(object_id)).first()
        except ValueError:
            return None
        if obj is not None and not self.has_view_permission(request, obj):
            raise PermissionDenied
        return obj

    def page_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Give the template context of an object's page."""
        raise NotImplementedError

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Show one object, read-only."""
        obj = self.find(request, object_id)
        if obj is None:
            return self.missing(request, object_id)
        context = {**self.page_context(request, obj), **(extra_context or {})}
        return self.page(request, self.page_template, context)

    def missing(self, request: HttpRequest, object_id: str) -> HttpResponseRedirect:
        """Redirect with Django's message that there is no such object."""
        return redirect_for_missing(self, request, object_id)

    def page(
        self, request: HttpRequest, template: str, context: dict[str, Any]
    ) -> TemplateResponse:
        """Render a page of this admin."""
        request.current_app = self.admin_site.name
        return TemplateResponse(
            request,
            template,
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "media": self.media,
                "is_popup": False,
                **context,
            },
        )

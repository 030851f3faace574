"""Run an action on one object, on a selection or on all rows that match a filter.

A confirmation page first lists the affected nodes. The action then calls the public verb, one
object a transaction, and reports what was done, what was skipped, and why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from django.contrib import messages
from django.contrib.admin import helpers
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from backbeat_celery.admin.actions import Action
from backbeat_celery.admin.base import ViewAdmin
from backbeat_celery.admin.search import as_uuid
from backbeat_celery.admin.visibility import Visibility
from backbeat_celery.exceptions import BackbeatError
from backbeat_celery.verbs.impact import (
    AffectedNodes,
    Continuation,
    canceled_nodes,
    continued_nodes,
    resumed_nodes,
)

BULK = 1000
"""Objects that one submit acts on at most."""

SAMPLED = 20
"""Objects that a page lists, and whose effects it counts."""

REASONS = 5


@dataclass(slots=True)
class ActionReport:
    """The objects that an action was done to, and why others were skipped."""

    done: list[Any] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


class SteeringAdmin(ViewAdmin):
    """Offers the actions of `verbs` on pages and in lists, according to the user's permissions."""

    verbs: Mapping[str, Action] = {}

    def offered(self, request: HttpRequest) -> list[Action]:
        """Give the actions that the user has permission for."""
        return [verb for verb in self.verbs.values() if self.may(request, verb.permission)]

    def tools_of(self, request: HttpRequest, obj: Any) -> list[dict[str, str]]:
        """Give links for the actions that the user may run on an object as it is now."""
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}"
        site = self.admin_site.name
        tools = [
            {
                "url": reverse(f"{name}_act", args=[obj.pk, verb.name], current_app=site),
                "label": str(verb.label),
                "css": "bb-drastic" if verb.is_drastic else "",
            }
            for verb in self.offered(request)
            if not verb.refuse(obj)
        ]
        history = reverse(f"{name}_history", args=[obj.pk], current_app=site)
        return [*tools, {"url": history, "label": _("Log"), "css": "historylink"}]

    # In lists ----------------------------------------------------------------------------

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        if "_popup" in request.GET:
            return {}
        return {
            verb.name: (self._in_list(verb), verb.name, str(verb.many))
            for verb in self.offered(request)
            if verb.is_bulk
        }

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Leave out of a selection what is no id; Django would raise."""
        post = request.POST.copy()
        chosen = [pk for pk in post.getlist(helpers.ACTION_CHECKBOX_NAME) if as_uuid(pk)]
        post.setlist(helpers.ACTION_CHECKBOX_NAME, chosen)
        request.POST = post  # type: ignore[assignment]
        return super().response_action(request, queryset, *args, **kwargs)

    def _in_list(self, verb: Action) -> Any:
        def act(_admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
            if not self.may(request, verb.permission):
                raise PermissionDenied
            across = request.POST.get("select_across") == "1"
            if not across:
                # Also rows that no longer match the list's filter: they are reported as skipped.
                chosen = request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)[:BULK]
                queryset = self.get_queryset(request).filter(pk__in=chosen)
            rows = list(queryset[: BULK + 1])
            here = request.get_full_path()
            return self._confirm_or_run(request, verb, rows, here, across=across)

        return act

    # On pages ----------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_act"
        view = self.admin_site.admin_view(self.act_view)
        return [path("<uuid:object_id>/act/<slug:verb>/", view, name=name), *super().get_urls()]

    def act_view(self, request: HttpRequest, object_id: Any, verb: str) -> HttpResponse:
        """Ask for confirmation of an action on one object, and run it."""
        found = self.verbs.get(verb)
        if found is None:
            raise Http404
        if not self.may(request, found.permission):
            raise PermissionDenied
        obj = self.find(request, str(object_id))
        if obj is None:
            return self.missing(request, str(object_id))
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}"
        back = reverse(f"{name}_change", args=[obj.pk], current_app=self.admin_site.name)
        return self._confirm_or_run(request, found, [obj], back)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Redirect Django's URL for deleting to the action that deletes."""
        if "delete" not in self.verbs or not self.may(request, "delete"):
            raise PermissionDenied
        if as_uuid(object_id) is None:
            return self.missing(request, object_id)
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_act"
        url = reverse(name, args=[as_uuid(object_id), "delete"], current_app=self.admin_site.name)
        return HttpResponseRedirect(url)

    # Both --------------------------------------------------------------------------------

    def _confirm_or_run(
        self, request: HttpRequest, verb: Action, rows: list[Any], back: str, across: bool = False
    ) -> HttpResponse:
        """Show the confirmation page, or run the action if it was confirmed."""
        is_cut, rows = len(rows) > BULK, rows[:BULK]
        target = rows[0] if len(rows) == 1 else None
        is_confirmed = request.method == "POST" and "post" in request.POST
        make: Any = verb.form
        may = partial(self.may, request)
        form = make(request.POST if is_confirmed else None, target=target, may=may)
        if is_confirmed and form.is_valid() and not form.asks_again:
            report = do(verb, rows, request.user, form.cleaned_data)
            self._show_report(request, verb, report, form.cleaned_data.get("reason", ""))
            if verb.deletes and report.done and len(rows) == 1:
                back = reverse(
                    f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist",
                    current_app=self.admin_site.name,
                )
            return HttpResponseRedirect(back)
        context = {
            "title": capfirst(str(verb.label)),
            "verb": verb,
            "form": form,
            "back": back,
            "target": target,
            "is_cut": is_cut,
            "bulk": BULK,
            "across": across,
            "rows": rows[:1] if across else rows,
            "checkbox": helpers.ACTION_CHECKBOX_NAME,
            "is_bulk": "action" in request.POST,
            **consequences(verb, rows, self.visibility(request)),
        }
        return self.page(request, "admin/backbeat_celery/confirm.html", context)

    def _show_report(
        self, request: HttpRequest, verb: Action, report: ActionReport, reason: str
    ) -> None:
        """Report to the user, and write a log entry for each object."""
        if report.done:
            count = len(report.done)
            one = _("%(done)s: %(object)s.") % {"done": verb.done, "object": report.done[0]}
            many = _("%(done)s: %(count)d %(name)s.") % {
                "done": verb.done,
                "count": count,
                "name": self.opts.verbose_name_plural,
            }
            messages.success(request, one if count == 1 else many)
            LogEntry.objects.log_actions(
                cast(int, request.user.pk),
                report.done,
                DELETION if verb.deletes else CHANGE,
                f"{verb.done}: {reason}" if reason else f"{verb.done}.",
            )
        if report.skipped:
            messages.warning(request, skipped_text(report.skipped))


def do(verb: Action, rows: Sequence[Any], user: Any, data: dict[str, Any]) -> ActionReport:
    """Act on each row; one that is refused does not stop the others."""
    report = ActionReport()
    for row in rows:
        pk = row.pk
        try:
            if refusal := verb.refuse(row):
                report.skipped[str(refusal)] += 1
                continue
            verb.call(row, user, data)
        except BackbeatError as exc:
            report.skipped[str(exc)] += 1
        else:
            row.pk = pk  # deletion clears it, and the log needs it
            report.done.append(row)
    return report


def skipped_text(skipped: Counter[str]) -> str:
    """Say how many were skipped, and why."""
    count = skipped.total()
    text = ngettext("%d was skipped: ", "%d were skipped: ", count) % count
    why = [
        reason if number == 1 and count == 1 else f"{number} × {reason}"
        for reason, number in skipped.most_common(REASONS)
    ]
    more = _("; and %d other reasons") % (len(skipped) - REASONS) if len(skipped) > REASONS else ""
    return text + "; ".join(why) + more


def consequences(verb: Action, rows: Sequence[Any], visibility: Visibility) -> dict[str, Any]:
    """Give what the action would do to these rows, and which of them it would skip.

    Affected nodes that the user may not see are counted but not named.
    """
    refused = Counter(str(why) for row in rows if (why := verb.refuse(row)))
    eligible = [row for row in rows if not verb.refuse(row)]
    affected, following = AffectedNodes(), Continuation()
    for row in eligible[:SAMPLED]:
        continued = continued_nodes(verb.preview or "", row)
        following.started.join(continued.started)
        following.completed.join(continued.completed)
        found = resumed_nodes(row) if verb.preview == "resume" else _canceled(verb, row)
        affected.join(found)
    return {
        "eligible": eligible[:SAMPLED],
        "eligible_count": len(eligible),
        "eligible_more": max(0, len(eligible) - SAMPLED),
        "refused": refused.most_common(REASONS),
        "affected": affected,
        "affected_listed": (listed := visibility.seen(affected.listed)),
        "affected_unlisted": affected.count - len(listed),
        "started": following.started,
        "started_listed": (starting := visibility.seen(following.started.listed)),
        "started_unlisted": following.started.count - len(starting),
        "completed": following.completed,
        "completed_listed": (ending := visibility.seen(following.completed.listed)),
        "completed_unlisted": following.completed.count - len(ending),
        "affected_sample": len(eligible) > SAMPLED,
    }


def _canceled(verb: Action, row: Any) -> AffectedNodes:
    return canceled_nodes(verb.preview, row) if verb.preview else AffectedNodes()

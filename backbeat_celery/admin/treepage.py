"""The page of a workflow: its state, what it waits for, its tree and timeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.template.loader import render_to_string
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from backbeat_celery.admin import markup, timeline
from backbeat_celery.admin.ancestors import trail
from backbeat_celery.admin.change_token import change_token, is_moving
from backbeat_celery.admin.summary import STATES, Summary, label, summaries
from backbeat_celery.admin.treerows import PAGE, TreeRow, read_rows
from backbeat_celery.admin.treestate import TreeState
from backbeat_celery.admin.values import shown
from backbeat_celery.admin.visibility import Visibility
from backbeat_celery.admin.waiting_notes import note
from backbeat_celery.inputs.redaction import redact
from backbeat_celery.inspection.canvas_places import is_errback, is_plain_member, places
from backbeat_celery.models import Node, Workflow
from backbeat_celery.states import Container, Mode, Status

HOLDING = (
    Status.FAILED,
    Status.RETRYING,
    Status.PAUSED,
    Status.RUNNING,
    Status.QUEUED,
)
"""Statuses that a workflow may wait for, the most serious first."""

MOST_HOLDING = 4
MOST_ALIKE = 100
POLL, SLOW_POLL = 2, 15
"""Seconds between two requests of a page that may change by itself, and of another one."""

STEP = 5
"""Seconds after which a page with a running node is rendered again without a change."""


@dataclass(frozen=True, slots=True)
class RenderedRow:
    """A row of the table: a node, or a link to children that are not shown."""

    row: TreeRow
    toggle: str = ""
    note: Any = ""
    lane: timeline.Lane | None = None
    took: Any = ""
    more: str = ""
    url: str = ""
    tags: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"{'more' if self.more else 'node'}-{self.row.node.pk}{self.more}"


def context(request: HttpRequest, workflow: Workflow, admin: Any) -> dict[str, Any]:
    """Give the template context of the page."""
    state = TreeState.read(request.GET)
    visibility: Visibility = admin.visibility(request)
    summary = summaries([workflow], visibility)[workflow.pk]
    word = label(workflow, summary)
    return {
        "title": workflow.name,
        "subtitle": None,
        "workflow": workflow,
        "original": workflow,
        "subject": markup.subject_link(workflow.subject, request, admin.admin_site),
        "state": markup.badge(word, STATES[word], _(word)),
        "summary": summary,
        "metadata": [(key, shown(value)) for key, value in redact(workflow.metadata).items()],
        "counts": _counts(summary),
        # Counts could include nodes that the user may not see.
        "is_narrow": visibility.is_narrow,
        "tools": admin.tools_of(request, workflow),
        "can_view_nodes": visibility.may_view_nodes,
        "poll": POLL if is_moving(summary) else SLOW_POLL if workflow.unfinished else "",
        **_tree(workflow, state, visibility),
        "holding": _holding(workflow, visibility) if summary.open else [],
    }


def live(request: HttpRequest, workflow: Workflow, admin: Any) -> HttpResponse:
    """Give the changing part of the page, or 304 if nothing has changed."""
    open_nodes = Node.objects.using(workflow.alias).filter(workflow=workflow.pk).unfinished()
    now = markup.engine_now()
    runs = open_nodes.filter(status=Status.RUNNING).exists()
    step = int(now.timestamp()) // STEP if runs else 0
    query = request.GET.urlencode()
    etag = f'"{change_token(workflow, query, step, get_language(), request.user.pk)}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache, private", "X-Backbeat": "tree"}
    if request.headers.get("If-None-Match") == etag:
        return HttpResponseNotModified(headers=headers)
    found = context(request, workflow, admin)
    html = render_to_string("admin/backbeat_celery/workflow/live.html", found, request)
    return HttpResponse(html, headers={**headers, "X-Backbeat-Now": now.isoformat()})


def _counts(summary: Summary) -> list[tuple[str, Any]]:
    """Give a badge with the number of nodes for each status."""
    order = [status for status in Status if summary.open.get(status)]
    return [
        (str(status), markup.status_badge(status, str(summary.open[status]))) for status in order
    ]


def _tree(workflow: Workflow, state: TreeState, visibility: Visibility) -> dict[str, Any]:
    nodes = Node.objects.using(workflow.alias).filter(workflow=workflow.pk).without_payload()
    top = visibility.nodes(nodes.filter(pk=state.top or workflow.pk)).first() or workflow.root
    root = read_rows(top, state, visibility)
    now = markup.engine_now()
    shown = [row for row in root.walk() if not row.node.is_root]
    drawing = timeline.draw([row.node for row in shown], now, squeeze=state.squeezed)
    return {
        "state_url": state.url,
        "top": None if top.is_root else top,
        "above": ancestors(top, visibility),
        "lines": list(_lines(root, state, drawing, now)),
        "drawing": drawing,
        "squeeze_url": state.squeeze(not state.squeezed).url,
        "squeezed": state.squeezed,
        "now": now,
    }


def ancestors(node: Node, visibility: Visibility) -> list[Node]:
    """Give the visible ancestors of a node, the topmost first, without the root."""
    return visibility.seen(trail(node))


def _lines(
    root: TreeRow, state: TreeState, drawing: timeline.Timeline, now: datetime
) -> Iterator[RenderedRow]:
    if not root.node.is_root:
        yield _line(root, None, {}, state, drawing, now)
    yield from _below(root, state, drawing, now)


def _below(
    parent: TreeRow, state: TreeState, drawing: timeline.Timeline, now: datetime
) -> Iterator[RenderedRow]:
    names = {row.node.seq: markup.short_name(row.node.name) for row in parent.children}
    if parent.before:
        url = state.turn_to(parent.node.pk, parent.start - PAGE).url
        yield RenderedRow(parent, more="before", url=url)
    for row in parent.children:
        yield _line(row, parent.node, names, state, drawing, now)
        yield from _below(row, state, drawing, now)
    if parent.after:
        url = state.turn_to(parent.node.pk, parent.start + PAGE).url
        yield RenderedRow(parent, more="after", url=url)


def _line(
    row: TreeRow,
    parent: Node | None,
    names: dict[int, str],
    state: TreeState,
    drawing: timeline.Timeline,
    now: datetime,
) -> RenderedRow:
    node = row.node
    toggle = ""
    if row.has_children and not row.is_deep:
        toggle = (state.fold if row.is_open else state.open)(node.pk).url
    is_idle = node.status in {Status.FAILED, Status.RETRYING, Status.QUEUED, Status.PAUSED}
    took = "" if is_idle else markup.lasting(node.started_at, node.finished_at, now)
    lane = drawing.lanes.get(node.pk)
    return RenderedRow(
        row, toggle, note(row, parent, names, now), lane, took, tags=mode_tags(node, parent)
    )


@dataclass(slots=True)
class Held:
    """A node that its workflow waits for, and why."""

    node: Node
    why: str
    others: int = 0


def _holding(workflow: Workflow, visibility: Visibility) -> list[Held]:
    """Give the nodes that the workflow waits for; of several with one name and status the first.

    The explanation is given only to users who may view nodes, since it quotes errors.
    """
    found: dict[tuple[str, str], Held] = {}
    unfinished = Node.objects.using(workflow.alias).unfinished_in(workflow.pk)
    nodes: Any = visibility.nodes(unfinished)
    for status in HOLDING:
        rows = nodes.filter(status=status).without_payload().order_by("pk")
        for row in rows[:MOST_ALIKE]:
            alike = found.get((row.status, row.name))
            if alike is not None:
                alike.others += 1
            elif len(found) < MOST_HOLDING:
                found[row.status, row.name] = Held(row, visibility.explain(row))
    return list(found.values())


def mode_tags(node: Node, parent: Node | None) -> list[str]:
    """Give the properties of a node that differ from the default, and its place in a canvas."""
    tags = places(node, parent)
    if node.container and node.container != node.name:
        tags.append(str(Container(node.container).label))
    is_plain = node.mode == Mode.BLOCKING or is_plain_member(node, parent)
    tags += [] if is_plain or is_errback(node) else [str(Mode(node.mode).label)]
    flags = {
        _("barrier"): node.barrier,
        _("flag"): node.is_flag,
        _("rescue"): node.rescue and not is_errback(node),
        _("remote"): node.remote,
        _("awaits completion"): node.awaits_completion,
    }
    return tags + [name for name, is_so in flags.items() if is_so]

"""The state of workflows: two statements for any number of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, Max

from backbeat_celery.admin.visibility import Visibility
from backbeat_celery.models import Node, Workflow, node_alias
from backbeat_celery.states import Status


@dataclass(slots=True)
class Summary:
    """The counts of a workflow's nodes, its root left out."""

    done: int = 0
    open: dict[str, int] = field(default_factory=dict)
    last_at: datetime | None = None

    @property
    def total(self) -> int:
        return self.done + sum(self.open.values())

    @property
    def failed(self) -> int:
        return self.open.get(Status.FAILED, 0)

    @property
    def percent(self) -> int:
        """How many percent are done; 100 only if all are."""
        return 100 * self.done // self.total if self.total else 0

    def note(self, *times: datetime | None) -> None:
        """Add the times of some activity."""
        known = [time for time in (self.last_at, *times) if time is not None]
        self.last_at = max(known, default=None)


def summaries(workflows: Iterable[Workflow], visibility: Visibility) -> dict[UUID, Summary]:
    """Count by status the nodes of these workflows that the user may see."""
    found = {workflow.pk: Summary(last_at=workflow.created_at) for workflow in workflows}
    nodes: Any = Node.objects.using(node_alias()).filter(workflow__in=list(found)).order_by()
    nodes = visibility.nodes(nodes)
    finished = nodes.filter(finished_at__isnull=False)
    for row in finished.values("workflow").annotate(count=Count("pk"), last=Max("finished_at")):
        summary = found[row["workflow"]]
        summary.done = row["count"]
        summary.note(row["last"])
    unfinished = nodes.unfinished().filter(parent__isnull=False)
    groups = unfinished.values("workflow", "status")
    for group in groups.annotate(
        count=Count("pk"), created=Max("created_at"), started=Max("started_at")
    ):
        summary = found[group["workflow"]]
        summary.open[group["status"]] = group["count"]
        summary.note(group["created"], group["started"])
    for workflow in workflows:
        if workflow.unfinished is None:
            found[workflow.pk].done -= 1  # its root
    return found


STATES = {
    "finished": "✔",
    "failing": "✖",
    "paused": "‖",
    "retrying": "↻",
    "running": "▶",
    "closing": "◑",
    "waiting": "◔",
    "idle": "○",
}
"""The labels of a workflow's state with their signs; the first that applies is used."""


def label(workflow: Workflow, summary: Summary) -> str:
    """Give a workflow's state: one of the keys of `STATES`."""
    if workflow.unfinished is None:
        return "finished"
    if summary.failed:
        return "failing"
    if workflow.paused_at is not None:
        return "paused"
    for status in (Status.RETRYING, Status.RUNNING):
        if summary.open.get(status):
            return str(status)
    if workflow.closed_at is not None:
        return "closing"
    return "waiting" if summary.open else "idle"

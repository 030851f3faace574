"""The overview: open nodes, recent attempts, what waits longest, and the workers."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Count, QuerySet
from django.db.models.functions import TruncHour, TruncMinute
from django.http import HttpRequest

from backbeat_celery.admin import markup
from backbeat_celery.admin.charts import Chart, Column
from backbeat_celery.admin.recent import CAP as RECENT
from backbeat_celery.admin.recent import Recent
from backbeat_celery.admin.visibility import Visibility, site_of
from backbeat_celery.conf import settings
from backbeat_celery.engine.delivery.broker_probe import broker_probe
from backbeat_celery.engine.repair.heartbeats import INTERVAL
from backbeat_celery.models import Node, SweeperLease, WorkerHeartbeat, node_alias
from backbeat_celery.runtime.compat.celery import app_in_use
from backbeat_celery.states import AttemptOutcome, Status

CAP = 10_000
"""Nodes of one status that are counted at most."""

MOST = 5
ALIKE = 50
LATE = 3
"""Intervals without a heartbeat or a pass after which it is late."""

# Not `waiting`: that is each open workflow's root, and each node that waits for its children.
SHOWN = (
    Status.FAILED,
    Status.RETRYING,
    Status.RUNNING,
    Status.QUEUED,
    Status.READY,
    Status.PENDING,
    Status.PAUSED,
)
WAITING = (Status.FAILED, Status.QUEUED, Status.RETRYING, Status.PAUSED)


def overview(request: HttpRequest) -> dict[str, Any]:
    """Give the template context of the page, with only what the user may see."""
    now = markup.engine_now()
    visibility = Visibility(request, site_of(request))
    found: dict[str, Any] = {"now": now, "may_see": visibility.may_view_nodes}
    if not found["may_see"]:
        return found
    recent, yesterday = Recent.read(node_alias()), now - timedelta(days=1)
    return {
        **found,
        "counted_since": recent.since if recent.is_cut(yesterday) else None,
        "counted": RECENT,
        "may_view_workflows": visibility.may_view_workflows,
        "counts": _counts(visibility),
        "charts": [
            ("hour", _chart(now, timedelta(minutes=1), 60, recent, visibility)),
            ("day", _chart(now, timedelta(hours=1), 24, recent, visibility)),
        ],
        "oldest": _oldest(visibility),
        "failing": _failing(recent.attempts(yesterday), visibility),
        "sweeper": _sweeper(now),
        "workers": _workers(now),
        "queue": _default_queue(),
    }


def _default_queue() -> dict[str, Any] | None:
    """Name the default queue and count its messages; None if the broker does not say."""
    name = str(app_in_use().conf.task_default_queue)
    messages = broker_probe.count_messages(name)
    return None if messages is None else {"queue": name, "messages": messages}


def _open(visibility: Visibility) -> Any:
    nodes = Node.objects.using(node_alias()).filter(finished_at=None, parent__isnull=False)
    return visibility.nodes(nodes)


def _counts(visibility: Visibility) -> list[dict[str, Any]]:
    """Count the open nodes of each status, up to `CAP`."""
    counts = []
    for status in SHOWN:
        nodes = Node.objects.using(node_alias()).filter(finished_at=None, status=status)
        count = visibility.nodes(nodes).order_by()[: CAP + 1].count()
        counts.append({"status": status, "count": min(count, CAP), "is_more": count > CAP})
    return counts


def _chart(
    now: datetime, step: timedelta, count: int, recent: Recent, visibility: Visibility
) -> Chart:
    """Count ended attempts, one column for each interval up to now."""
    truncate = TruncMinute if step < timedelta(hours=1) else TruncHour
    last = now.astimezone(UTC).replace(second=0, microsecond=0)
    if truncate is TruncHour:
        last = last.replace(minute=0)
    start = last - step * (count - 1)
    rows = (
        visibility.attempts(recent.attempts(start))
        .annotate(slot=truncate("finished_at", tzinfo=UTC))
        .order_by()
        .values("slot", "outcome")
        .annotate(count=Count("pk"))
    )
    found: dict[datetime, Counter[bool]] = defaultdict(Counter)
    for row in rows:
        found[row["slot"]][row["outcome"] == AttemptOutcome.SUCCEEDED] += row["count"]
    slots = [start + step * i for i in range(count)]
    return Chart([Column(at, found[at][True], found[at][False]) for at in slots])


def _oldest(visibility: Visibility) -> list[Node]:
    """Give what has waited longest in each status of `WAITING`: one node of each name."""
    found: dict[tuple[Any, ...], Node] = {}
    for status in WAITING:
        rows = _open(visibility).filter(status=status).without_payload().select_related("workflow")
        alike: dict[tuple[Any, ...], Node] = {}
        for node in rows.order_by("pk")[:ALIKE]:
            alike.setdefault((status, node.workflow_id, node.name), node)
        found.update(list(alike.items())[:MOST])
    return sorted(found.values(), key=lambda node: node.created_at)[: 2 * MOST]


def _failing(attempts: QuerySet[Any], visibility: Visibility) -> list[dict[str, Any]]:
    """Give the handlers with the most failed attempts."""
    rows = attempts.filter(outcome__in=[AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT])
    names = visibility.attempts(rows).order_by().values("node__name").annotate(count=Count("pk"))
    return [dict(row) for row in names.order_by("-count", "node__name")[:MOST]]


def _sweeper(now: datetime) -> dict[str, Any]:
    lease = SweeperLease.objects.using(node_alias()).first()
    swept_at = lease.swept_at if lease else None
    limit = timedelta(seconds=max(10.0, LATE * settings.sweep_interval))
    return {
        "holder": lease.holder if lease else "",
        "swept_at": swept_at,
        "is_late": swept_at is None or now - swept_at > limit,
    }


def _workers(now: datetime) -> list[dict[str, Any]]:
    rows = WorkerHeartbeat.objects.using(node_alias()).order_by("-seen_at")[: 10 * MOST]
    limit = timedelta(seconds=LATE * INTERVAL)
    return [{"worker": row, "is_late": now - row.seen_at > limit} for row in rows]

"""The demo's schedules: one for every night, and one that a real beat fires while you watch."""

from __future__ import annotations

import json
from typing import Any

from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from backbeat_celery.models import Node
from demo_project.shop import tasks

NIGHTLY = "nightly stock report"
ONCE = "stock report of the demo"
REPORT: dict[str, Any] = {
    "task": tasks.stock_report.name,
    "subject": "stock {date}",
    "name": "stock report",
}


def fill() -> None:
    """Write both schedules, as the admin would; what an earlier run has left is taken over."""
    night, _ = CrontabSchedule.objects.get_or_create(minute="0", hour="2", timezone="UTC")
    second, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.SECONDS)
    _write(NIGHTLY, crontab=night, description="Starts a workflow every night at two o'clock.")
    _write(
        ONCE,
        interval=second,
        one_off=True,
        last_run_at=None,
        total_run_count=0,
        description="Fired once by the demo's beat; it disables itself after that.",
    )


def _write(name: str, **fields: Any) -> None:
    PeriodicTask.objects.update_or_create(
        name=name,
        defaults={
            "task": "backbeat.signal",
            "kwargs": json.dumps(REPORT),
            "enabled": True,
            **fields,
        },
    )


class Started:
    """What beat has started since this was made."""

    def __init__(self) -> None:
        self._since = timezone.now()

    @property
    def nodes(self) -> list[Node]:
        rows = Node.objects.filter(task=tasks.stock_report.name, created_at__gte=self._since)
        return [node for node in rows if node.metadata.get("schedule") == ONCE]

    def are_finished(self) -> bool:
        """Tell whether there is one and it is over."""
        return bool(self.nodes) and all(node.is_finished for node in self.nodes)

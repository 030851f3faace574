"""The attempts of the last hours, as many as a page can afford to count."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from backbeat_celery.models import Attempt

CAP = 100_000
"""Attempts that the overview counts: the newest, by their ids, which grow as attempts end."""


@dataclass(frozen=True, slots=True)
class Recent:
    """Where the newest attempts begin that are counted."""

    using: str
    floor: int
    since: datetime | None
    """When the first of them ended; None where there are no more than are counted."""

    @classmethod
    def read(cls, using: str) -> Recent:
        """Look where they begin, in two probes of the primary key."""
        ids = Attempt.objects.using(using).order_by("-pk").values_list("pk", flat=True)
        floor = (ids.first() or 0) - CAP
        begin = Attempt.objects.using(using).filter(pk__gt=floor).order_by("pk")
        since = begin.values_list("finished_at", flat=True).first() if floor > 0 else None
        return cls(using, floor, since)

    def is_cut(self, start: datetime) -> bool:
        """Whether attempts that ended after `start` are left out."""
        return self.since is not None and self.since > start

    def attempts(self, start: datetime) -> QuerySet[Any]:
        """Those that ended since, as far as they are counted; read by one range of an index."""
        rows = Attempt.objects.using(self.using)
        # Not by both: a planner might choose the range that holds more.
        return (
            rows.filter(pk__gt=self.floor)
            if self.is_cut(start)
            else rows.filter(finished_at__gte=start)
        )

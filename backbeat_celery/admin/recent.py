"""The attempts of the last hours, as many as a page can count quickly."""

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
    """The range of the newest attempts that are counted."""

    using: str
    floor: int
    since: datetime | None
    """When the first of them ended; None if all attempts are counted."""

    @classmethod
    def read(cls, using: str) -> Recent:
        """Find where the range begins, by two lookups in the primary key."""
        ids = Attempt.objects.using(using).order_by("-pk").values_list("pk", flat=True)
        floor = (ids.first() or 0) - CAP
        begin = Attempt.objects.using(using).filter(pk__gt=floor).order_by("pk")
        since = begin.values_list("finished_at", flat=True).first() if floor > 0 else None
        return cls(using, floor, since)

    def is_cut(self, start: datetime) -> bool:
        """Whether attempts that ended after `start` are left out."""
        return self.since is not None and self.since > start

    def attempts(self, start: datetime) -> QuerySet[Any]:
        """Give the counted attempts that ended since `start`, by one range of an index."""
        rows = Attempt.objects.using(self.using)
        # Not by both conditions: a planner might choose the larger range.
        return (
            rows.filter(pk__gt=self.floor)
            if self.is_cut(start)
            else rows.filter(finished_at__gte=start)
        )

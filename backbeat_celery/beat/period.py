"""Find the period of a schedule that a message from beat belongs to.

A workflow is started once for each period. Beat sends no time, and it may send twice: when two
beats run, or when one is restarted before it has saved its state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import product
from typing import Any

from celery import schedules

YEARS = 4
"""Years to search back for a crontab's last time, which may be a 29th of February."""


@dataclass(frozen=True, slots=True)
class Period:
    """A period: `id` is the same for each message of it, `moment` fills in templates."""

    id: str
    moment: datetime


def period_of(schedule: Any, fired_at: datetime) -> Period | None:
    """Give the period of a message; None for an unknown kind of schedule."""
    kind = type(schedule)
    if issubclass(kind, schedules.crontab):
        moment = last_moment(schedule, fired_at.astimezone(schedule.tz))
        return None if moment is None else _at(moment)
    if (clocked_time := getattr(schedule, "clocked_time", None)) is not None:
        return _at(clocked_time)
    if issubclass(kind, schedules.schedule):
        return _interval(schedule.run_every, fired_at)
    return None


def _at(moment: datetime) -> Period:
    return Period(f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}", moment)


def _interval(length: timedelta, fired_at: datetime) -> Period | None:
    """Count intervals from 1970, since they have no fixed start."""
    if length <= timedelta(0):
        return None
    count = (fired_at - datetime(1970, 1, 1, tzinfo=UTC)) // length
    return Period(f"{length.total_seconds():.0f}s#{count}", fired_at)


def last_moment(crontab: Any, until: datetime) -> datetime | None:
    """Give a crontab's last time that is not after `until`, in the time zone of `until`.

    Times are compared in UTC: in the hour that is repeated at the end of summer time, 02:10 may
    be after 02:45.
    """
    assert until.tzinfo is not None
    # Starts with tomorrow, for clocks that are set back over midnight.
    for days in range(-1, 366 * YEARS):
        day = until.date() - timedelta(days=days)
        if _is_on(crontab, day):
            moments = _moments(crontab, day, until.tzinfo)
            past = (moment for moment in moments if _in_utc(moment) <= _in_utc(until))
            if found := max(past, key=_in_utc, default=None):
                return found
    return None


def _is_on(crontab: Any, day: date) -> bool:
    return (
        day.month in crontab.month_of_year
        and day.day in crontab.day_of_month
        and day.isoweekday() % 7 in crontab.day_of_week
    )


def _moments(crontab: Any, day: date, zone: tzinfo) -> Iterator[datetime]:
    """Give the times of a day; those in a skipped hour use the UTC offset before it.

    A crontab for every hour has two times in a repeated hour, any other crontab only the first.
    """
    is_every_hour = len(crontab.hour) == 24
    for hour, minute in product(crontab.hour, crontab.minute):
        first = datetime.combine(day, time(hour, minute, tzinfo=zone))
        yield first
        second = first.replace(fold=1)
        if is_every_hour and _in_utc(second) > _in_utc(first):
            yield second


def _in_utc(moment: datetime) -> datetime:
    """Convert to UTC, since Python ignores `fold` when it compares times of one time zone."""
    return moment.astimezone(UTC)

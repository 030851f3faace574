"""Which period of its schedule a firing belongs to: of each period, one start is wanted.

Beat sends a name and no moment, and it may fire twice: two of them run, or one is started
again before it has written down that it fired.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import product
from typing import Any

from celery import schedules

YEARS = 4
"""How far back a crontab's last moment is looked for: a 29th of February."""


@dataclass(frozen=True, slots=True)
class Period:
    """`id` is the same for each firing of one period; `moment` gives the dates to subjects."""

    id: str
    moment: datetime


def period_of(schedule: Any, fired_at: datetime) -> Period | None:
    """Tell the period of a firing; None for a kind of schedule that has none we know."""
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
    """Intervals have no place on the calendar; they are counted from 1970."""
    if length <= timedelta(0):
        return None
    count = (fired_at - datetime(1970, 1, 1, tzinfo=UTC)) // length
    return Period(f"{length.total_seconds():.0f}s#{count}", fired_at)


def last_moment(crontab: Any, until: datetime) -> datetime | None:
    """The last moment of a crontab that is not after `until`, in the time zone of `until`.

    Moments are compared as what they are and not as what clocks show: in the hour that the end
    of summer time repeats, 02:10 may be after 02:45.
    """
    assert until.tzinfo is not None
    # From tomorrow on: where clocks are put back over midnight, it may have been there before.
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
    """The moments of a day, those of an hour that is skipped by the clock as it was before.

    An hour that is repeated is two for a crontab of every hour; for any other it is the first.
    """
    is_every_hour = len(crontab.hour) == 24
    for hour, minute in product(crontab.hour, crontab.minute):
        first = datetime.combine(day, time(hour, minute, tzinfo=zone))
        yield first
        second = first.replace(fold=1)
        if is_every_hour and _in_utc(second) > _in_utc(first):
            yield second


def _in_utc(moment: datetime) -> datetime:
    """Two times of one time zone are compared by their clock, `fold` or not."""
    return moment.astimezone(UTC)

"""The period that a firing belongs to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from celery import schedules
from django_celery_beat.clockedschedule import clocked
from django_celery_beat.tzcrontab import TzAwareCrontab
from hypothesis import given, settings
from hypothesis import strategies as st

from backbeat_celery.beat.period import last_moment, period_of

VIENNA = ZoneInfo("Europe/Vienna")


def at(text, zone=UTC, fold=0):
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)


@pytest.mark.parametrize(
    ("fields", "until", "moment"),
    [
        ({"minute": 0, "hour": 2}, "2026-11-24T02:00:00", "2026-11-24T02:00"),
        ({"minute": 0, "hour": 2}, "2026-11-24T02:00:07", "2026-11-24T02:00"),
        ({"minute": 0, "hour": 2}, "2026-11-24T01:59:59", "2026-11-23T02:00"),
        ({"minute": 0, "hour": 2}, "2026-11-24T23:00:00", "2026-11-24T02:00"),
        ({"minute": "*/15"}, "2026-11-24T02:59:59", "2026-11-24T02:45"),
        ({"minute": "59", "hour": "23"}, "2026-01-01T00:00:03", "2025-12-31T23:59"),
        (
            {"minute": 0, "hour": 6, "day_of_week": "mon-fri"},
            "2026-11-22T12:00",
            "2026-11-20T06:00",
        ),
        ({"minute": 0, "hour": 6, "day_of_week": "sun"}, "2026-11-24T12:00", "2026-11-22T06:00"),
        ({"minute": 0, "hour": 0, "day_of_month": 1}, "2026-11-24T12:00", "2026-11-01T00:00"),
        ({"minute": 0, "hour": 0, "day_of_month": 31}, "2026-11-24T12:00", "2026-10-31T00:00"),
        ({"minute": 5, "hour": 0, "month_of_year": 3}, "2026-02-01T00:00", "2025-03-31T00:05"),
        (
            {"minute": 0, "hour": 0, "day_of_month": 29, "month_of_year": 2},
            "2027-12-31T00:00",
            "2024-02-29T00:00",
        ),
    ],
)
def test_the_last_moment_of_a_crontab(fields, until, moment):
    assert last_moment(schedules.crontab(**fields), at(until)) == at(moment)


def test_a_crontab_that_has_not_come_for_years_has_no_moment():
    leap_monday = {"day_of_month": 29, "month_of_year": 2, "day_of_week": "mon"}
    never = schedules.crontab(minute=0, hour=0, **leap_monday)
    assert last_moment(never, at("2026-11-24T12:00")) is None
    assert period_of(never, at("2026-11-24T12:00")) is None


def test_firings_of_one_period_have_one_id_however_late_the_second_is():
    nightly = TzAwareCrontab(minute="0", hour="2", tz=VIENNA)
    first = period_of(nightly, at("2026-11-24T01:00:00.4"))
    again = period_of(nightly, at("2026-11-24T22:47:00"))
    following = period_of(nightly, at("2026-11-25T01:00:01"))
    assert first.id == again.id == "2026-11-24T01:00:00Z" != following.id
    assert first.moment == at("2026-11-24T02:00", VIENNA)


def test_the_hour_that_comes_twice_in_autumn_is_two_hours():
    hourly = TzAwareCrontab(minute="30", hour="*", tz=VIENNA)
    ids = [period_of(hourly, at(f"2026-10-25T{hour}:30:01")).id for hour in ("00", "01", "02")]
    assert ids == [f"2026-10-25T{hour}:30:00Z" for hour in ("00", "01", "02")]


@pytest.mark.parametrize(
    "late", ["00:45:00", "00:59:00", "01:10:00", "01:44:59", "01:50:00", "03:00:00", "22:00:00"]
)
def test_a_daily_start_in_the_hour_that_comes_twice_is_one_start(late):
    """Beat fires it in the first of the two hours; whatever comes later that day is the same."""
    nightly = TzAwareCrontab(minute="45", hour="2", tz=VIENNA)
    assert period_of(nightly, at(f"2026-10-25T{late}")).id == "2026-10-25T00:45:00Z"


def test_a_start_in_the_hour_that_is_skipped_has_not_come_before_its_time():
    nightly = TzAwareCrontab(minute="45", hour="2", tz=VIENNA)
    ids = [period_of(nightly, at(f"2026-03-29T{time}")).id for time in ("01:44:59", "01:45:00")]
    assert ids == ["2026-03-28T01:45:00Z", "2026-03-29T01:45:00Z"]


ZONES = ("Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "America/St_Johns")
CHANGES = [
    *("2026-03-29T01:00", "2026-10-25T01:00", "2026-03-08T07:00", "2026-11-01T06:00"),
    *("2026-10-03T15:30", "2026-04-04T15:00", "2006-04-02T03:31", "2006-10-29T02:31"),
]
"""When clocks are put forward and back in one of the zones; in St. John's over midnight."""


def reference(hours: set[int], minutes: set[int], until: datetime, zone: ZoneInfo) -> datetime:
    """Go back minute by minute, and look at two clocks: one that is put on, one that is late."""
    now = until.replace(second=0)
    while True:
        shown = now.astimezone(zone)
        if (
            shown.hour in hours
            and shown.minute in minutes
            and not (shown.fold and len(hours) < 24)
        ):
            return now
        late = shown.replace(tzinfo=None) - shown.utcoffset()
        late += (now - timedelta(hours=2)).astimezone(zone).utcoffset()
        if is_skipped(late, zone) and late.hour in hours and late.minute in minutes:
            return now
        now -= timedelta(minutes=1)


def is_skipped(clock: datetime, zone: ZoneInfo) -> bool:
    """Tell whether no clock of the zone ever shows this."""
    there_and_back = clock.replace(tzinfo=zone).astimezone(UTC).astimezone(zone)
    return there_and_back.replace(tzinfo=None) != clock


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(
    hours=st.just(set(range(24))) | st.sets(st.integers(0, 4), min_size=1),
    minutes=st.sets(st.sampled_from([0, 1, 10, 15, 30, 45, 59]), min_size=1),
    change=st.sampled_from(CHANGES),
    after=st.integers(-5 * 3600, 5 * 3600),
    zone=st.sampled_from(ZONES).map(ZoneInfo),
)
def test_the_last_moment_is_the_last_in_every_time_zone(hours, minutes, change, after, zone):
    until = at(change) + timedelta(seconds=after)
    crontab = schedules.crontab(hour=hours, minute=minutes)
    found = last_moment(crontab, until.astimezone(zone))
    assert found.astimezone(UTC) == reference(hours, minutes, until, zone)


def test_intervals_are_counted_from_1970():
    hourly = schedules.schedule(timedelta(hours=1))
    ids = [
        period_of(hourly, at(f"2026-11-24T{time}")).id for time in ("02:00", "02:59:59", "03:00")
    ]
    assert ids[0] == ids[1] != ids[2]
    assert period_of(hourly, at("2026-11-24T02:59")).moment == at("2026-11-24T02:59")
    longer = period_of(schedules.schedule(timedelta(hours=2)), at("2026-11-24T02:00"))
    assert longer.id not in ids


def test_an_interval_of_nothing_has_no_period():
    assert period_of(schedules.schedule(timedelta(0)), at("2026-11-24T02:00")) is None


def test_a_clocked_schedule_has_one_moment():
    once = clocked(at("2026-11-24T02:00"))
    assert period_of(once, at("2026-11-25T02:00")).moment == at("2026-11-24T02:00")


@pytest.mark.parametrize("schedule", [None, object()])
def test_of_what_we_do_not_know_there_is_no_period(schedule):
    assert period_of(schedule, at("2026-11-24T02:00")) is None

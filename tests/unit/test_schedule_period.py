"""The period that a firing belongs to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from celery import schedules
from django_celery_beat.clockedschedule import clocked
from django_celery_beat.tzcrontab import TzAwareCrontab

from backbeat_celery.schedules.period import last_moment, period_of

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

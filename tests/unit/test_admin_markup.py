"""How times, statuses, charts and values are written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backbeat_celery.admin import charts, markup
from backbeat_celery.admin.treestate import MOST, TreeState
from backbeat_celery.admin.values import LONG, cut, shown
from backbeat_celery.runtime.ids import uuid7
from backbeat_celery.states import Status

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.25, "250 ms"),
        (3.21, "3.2 s"),
        (59, "59 s"),
        (75, "1 min 15 s"),
        (1500, "25 min"),
        (3700, "1 h 1 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_duration(seconds, text):
    assert markup.duration(seconds) == text


def test_times_to_come_and_times_past():
    assert ">in 5.0 s<" in markup.ago(NOW + timedelta(seconds=5), NOW)
    assert ">2 min 0 s ago<" in markup.ago(NOW - timedelta(minutes=2), NOW)
    assert ">3 h<" in markup.age(NOW - timedelta(hours=3, minutes=59), NOW)
    assert markup.ago(None) == "–"


@pytest.mark.parametrize("status", Status)
def test_every_status_has_a_sign_and_its_word(status):
    html = markup.status_badge(status)
    assert str(status.label) in html
    assert ">•<" not in html


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("shop.tasks.buy", "buy"),
        ("buy", "buy"),
        ("camera order", "camera order"),
        ("v1.2", "v1.2"),
    ],
)
def test_short_name(name, short):
    assert markup.short_name(name) == short


@pytest.mark.parametrize(
    "subject", ["newsletter", "a:b", "auth.user:", "auth.user:x", "no.model:1"]
)
def test_subject_that_names_no_object(subject):
    assert markup.subject_object(subject) is None


def test_one_failure_among_thousands_is_seen():
    chart = charts.Chart([charts.Column(NOW, 100_000, 1), charts.Column(NOW, 0, 0)])
    first, second = chart.bars()
    assert first.bad_height == "2.00%"
    assert second.good_height == "0.00%"
    assert (chart.good, chart.bad, chart.highest) == (100_000, 1, 100_001)


def test_long_values_are_cut():
    value = cut("x" * (LONG + 1))
    assert (len(value.text), value.is_cut, value.length) == (LONG, True, LONG + 1)
    assert not cut("x" * (LONG + 1), whole=True).is_cut
    assert shown({"a": "b" * 100}).endswith("…")


def test_state_of_a_tree_survives_its_address():
    from django.http import QueryDict

    one, two = uuid7(), uuid7()
    state = TreeState(top=one).open(one).fold(two).turn_to(one, 50).squeeze(False)
    assert TreeState.read(QueryDict(state.url[1:])) == state
    assert state.fold(one).opened == ()
    for _ in range(2 * MOST):
        state = state.fold(uuid7())
    assert len(state.folded) == MOST

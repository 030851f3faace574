"""Templates of subjects and keys: dates, and no way to anything else."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from backbeat_celery.beat.template import render
from backbeat_celery.exceptions import BadInput

MOMENT = datetime(2024, 12, 30, 7, 5, 9, tzinfo=ZoneInfo("Europe/Vienna"))


def filled(template):
    return render(template, "subject", MOMENT, "nightly")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("report", "report"),
        ("", ""),
        ("report {date}", "report 2024-12-30"),
        ("{week}", "2025-W01"),  # the week's own year, by ISO 8601
        ("{month} {year}", "2024-12 2024"),
        ("{hour}", "2024-12-30T07"),
        ("{minute}", "2024-12-30T07:05"),
        ("{now}", "2024-12-30T07:05"),
        ("{now:%d.%m.%Y %H:%M:%S}", "30.12.2024 07:05:09"),
        ("{now:100%%}", "100%"),
        ("{schedule}: {date}", "nightly: 2024-12-30"),
        ("{{date}}", "{date}"),
    ],
)
def test_names_stand_for_dates(template, text):
    assert filled(template) == text


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{dat}", "has no {dat}; it has date"),
        ("{}", "has no {}"),
        ("{0}", "has no {0}"),
        ("{now.tzinfo}", "has no {now.tzinfo}"),
        ("{date.__class__}", "has no"),
        ("{date[0]}", "has no"),
        ("{schedule.__init__.__globals__}", "has no"),
        ("{date!r}", "without !r"),
        ("{date:>10}", "takes no format"),
        ("{year:99999999999d}", "takes no format"),
        ("{now:{date}}", "strftime"),
        ("{now:%999999Y}", "strftime"),
        ("{now:%}", "strftime"),
        ("{date", "not a template"),
        ("date}", "not a template"),
        ("x" * 256, "at most 255"),
        (None, "at most 255"),
        (["{date}"], "at most 255"),
    ],
)
def test_anything_else_is_refused_with_a_reason(template, words):
    with pytest.raises(BadInput) as refused:
        filled(template)
    assert words in str(refused.value)
    assert "subject" in str(refused.value) or "{" in str(refused.value)

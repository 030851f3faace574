"""The app can be removed from a project, and put in again: see docs/upgrading.md."""

from __future__ import annotations

from tests.bare.house import House

TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'backbeat%'"
LEFT = "SELECT count(*) FROM django_content_type WHERE app_label = 'backbeat_celery'"
SIGNAL = """
import json
from backbeat_celery import signal
from till.tasks import charge
print(json.dumps(signal(charge.s("4111", 5), subject="order").status))
"""


def test_nothing_is_left_of_the_app(house: House):
    assert house.rows(TABLES)
    assert house.rows(LEFT) != [(0,)]
    house.manage("migrate", "backbeat_celery", "zero", "-v", "0")
    assert house.rows(TABLES) == []

    gone = house.without("package")
    gone.manage("remove_stale_contenttypes", "--include-stale-apps", "--no-input")
    assert gone.rows(LEFT) == [(0,)]
    gone.manage("check")
    gone.manage("migrate", "-v", "0")


def test_it_can_come_back(house: House):
    house.manage("migrate", "backbeat_celery", "zero", "-v", "0")
    house.manage("migrate", "-v", "0")
    assert house.python(SIGNAL) == "queued"

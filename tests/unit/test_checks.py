"""Each wrong setting is told at start, with what to do about it."""

from __future__ import annotations

import pytest
from celery import current_app
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections

from backbeat_celery import checks

WRONG = [
    ([], "E001", "not a dictionary"),
    (None, "E001", "not a dictionary"),
    ({"LEESE": 30}, "E002", "'LEESE'"),
    ({7: 30}, "E002", "7"),
    ({"LEASE": "30"}, "E003", "must be int or float"),
    ({"LEASE": True}, "E003", "must be int or float"),  # a bool is no number here
    ({"LEASE": None}, "E003", "must be int or float"),
    ({"LEASE": 0}, "E003", "at least 1"),
    ({"LEASE": float("nan")}, "E003", "at least 1"),
    ({"LEASE": float("inf")}, "E003", "LEASE"),  # no clock reaches it
    ({"SWEEP_INTERVAL": 0}, "E003", "at least 0.1"),
    ({"PUBLISH_HORIZON": -1}, "E003", "at least 0"),
    ({"MAX_RETRIES": -1}, "E003", "at least 0"),
    ({"MAX_RETRIES": 1.5}, "E003", "must be int or None"),
    ({"RETRY_DELAY": -1}, "E003", "at least 0"),
    ({"RETRY_BACKOFF_MAX": "1h"}, "E003", "must be int or float"),
    ({"MAX_LOST_ATTEMPTS": 0}, "E003", "at least 1"),
    ({"DEFAULT_TIMEOUT": 0}, "E003", "at least"),
    ({"UNKNOWN_TASK_GRACE": None}, "E003", "must be int or float"),
    ({"MAX_PAYLOAD": 1}, "E003", "at least 64"),
    ({"RETENTION": -1}, "E003", "at least 0"),
    ({"KEY_RETENTION": "90"}, "E003", "must be int or float"),
    ({"REDACT": "password"}, "E003", "must be"),  # a string is a list of letters
    ({"MAIL_ADMINS": 1}, "E003", "must be bool"),
    ({"MAIL_ADMINS": None}, "E003", "must be bool"),
    ({"MAIL_ADMINS": True}, "W004", "ADMINS is empty"),
    ({"DATABASES": "default"}, "E003", "must be"),
    ({"DATABASES": ["nowhere"]}, "E004", "'nowhere'"),
    ({"SWEEP_INTERVAL": 31}, "W001", "longer than"),
]


@pytest.mark.parametrize(("value", "number", "words"), WRONG)
def test_a_wrong_setting_is_told_with_a_hint(settings, value, number, words):
    settings.BACKBEAT = value
    [message] = checks.check_settings()
    assert message.id == f"backbeat_celery.{number}"
    assert words in message.msg
    assert message.hint


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"MAX_RETRIES": None, "DEFAULT_TIMEOUT": None},
        {"LEASE": 30, "SWEEP_INTERVAL": 30, "PUBLISH_HORIZON": 0, "MAX_RETRIES": 0},
        {"REDACT": ["password"], "DATABASES": ["default"]},
    ],
)
def test_right_settings_pass(settings, value):
    settings.BACKBEAT = value
    assert checks.check_settings() == []


@pytest.mark.parametrize(
    ("key", "hint"),
    [("LEESE", "Did you mean LEASE?"), ("MAX_RETRY", "Did you mean MAX_RETRIES?")],
)
def test_a_key_that_is_nearly_right_is_guessed(settings, key, hint):
    settings.BACKBEAT = {key: 1}
    assert checks.check_settings()[0].hint == hint


def test_a_key_like_none_lists_those_there_are(settings):
    settings.BACKBEAT = {"qqqq": 1}
    assert "LEASE" in checks.check_settings()[0].hint


def test_every_wrong_key_is_told_at_once(settings):
    settings.BACKBEAT = {"LEESE": 1, "LEASE": 0, "MAX_RETRIES": "x"}
    assert len(checks.check_settings()) == 3


def test_the_check_command_fails_on_a_wrong_setting(settings):
    settings.BACKBEAT = {"LEASE": "x"}
    with pytest.raises(SystemCheckError, match=r"backbeat_celery\.E003"):
        call_command("check")


@pytest.fixture
def celery_conf():
    """Celery's settings, put back as they were."""
    conf = current_app.conf
    before = {name: conf[name] for name in ("task_always_eager", "task_protocol")}
    yield conf
    conf.update(before)


def test_eager_tasks_are_warned_of(celery_conf):
    celery_conf.task_always_eager = True
    [message] = checks.check_celery()
    assert (message.id, "Simulation" in message.hint) == ("backbeat_celery.W002", True)


@pytest.mark.parametrize(("protocol", "ids"), [(1, ["backbeat_celery.E005"]), (2, [])])
def test_a_protocol_without_headers_is_refused(celery_conf, protocol, ids):
    celery_conf.task_protocol = protocol
    assert [message.id for message in checks.check_celery()] == ids


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (None, []),
        ([], []),
        (["backbeat.sweep", "backbeat.*"], []),
        (["no.such.task"], ["backbeat_celery.W032"]),
        (["no.*", "backbeat.*"], ["backbeat_celery.W032"]),
        ([7], ["backbeat_celery.E030"]),
    ],
)
def test_names_of_tasks_for_the_admin_are_those_of_tasks(settings, names, ids):
    settings.BACKBEAT = {"ADMIN_TASKS": names}
    assert [message.id for message in checks.check_admin_tasks()] == ids


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({}, ["backbeat_celery.W003"]),
        ({"transaction_mode": "DEFERRED"}, ["backbeat_celery.W003"]),
        ({"transaction_mode": "immediate"}, []),
    ],
)
def test_sqlite_that_begins_deferred_is_warned_of(monkeypatch, options, ids):
    monkeypatch.setattr(connections["default"], "vendor", "sqlite")
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", options)
    messages = checks.check_databases(databases=["default"])
    assert [message.id for message in messages] == ids
    assert all("IMMEDIATE" in message.hint for message in messages)


def test_databases_are_left_alone_unless_asked_for():
    assert checks.check_databases() == []


def test_mails_with_recipients_are_right(settings, admins):
    settings.BACKBEAT, settings.ADMINS = {"MAIL_ADMINS": True}, admins
    assert checks.check_settings() == []


def test_times_without_zones_are_refused(settings):
    settings.USE_TZ = False
    [message] = checks.check_settings()
    assert message.id == "backbeat_celery.E007"


@pytest.mark.parametrize(
    ("level", "ids"),
    [
        ("read committed", []),  # Django's default
        ("repeatable read", ["backbeat_celery.E006"]),
        (None, ["backbeat_celery.E006"]),  # the server's, which is repeatable read
    ],
)
def test_mysql_at_another_isolation_level_is_refused(monkeypatch, level, ids):
    monkeypatch.setattr(connections["default"], "vendor", "mysql")
    monkeypatch.setattr(connections["default"], "isolation_level", level, raising=False)
    messages = checks.check_databases(databases=["default"])
    assert [message.id for message in messages] == ids


@pytest.mark.django_db
def test_a_server_that_never_ends_an_idle_transaction_is_warned_of():
    connection = connections["default"]
    unlimited = {
        "postgresql": "SET LOCAL idle_in_transaction_session_timeout = 0",
        "mysql": "SET idle_transaction_timeout = 0, idle_write_transaction_timeout = 0",
    }
    limited = {
        "postgresql": "SET LOCAL idle_in_transaction_session_timeout = '60s'",
        "mysql": "SET idle_transaction_timeout = 60",
    }
    found = []
    for statement in (unlimited, limited):
        with connection.cursor() as cursor:
            cursor.execute(statement.get(connection.vendor, "SELECT 1"))
        found.append([message.id for message in checks.check_limits(["default"])])
    has_limit = connection.vendor in unlimited
    assert found == [["backbeat_celery.W021"] if has_limit else [], []]

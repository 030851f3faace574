"""The settings: defaults of the contract, read at each access."""

from __future__ import annotations

import pytest
from django.test import override_settings

from backbeat_celery.conf import OPTIONS, settings

DEFAULTS = {
    "lease": 30,
    "sweep_interval": 5,
    "publish_horizon": 60,
    "max_retries": 6,
    "retry_delay": 30,
    "retry_backoff_max": 3600,
    "max_lost_attempts": 3,
    "default_timeout": 3600,
    "unknown_task_grace": 3600,
    "max_payload": 256 * 1024,
    "redact": frozenset(),
    "mail_admins": False,
}


@pytest.mark.parametrize(("name", "value"), DEFAULTS.items())
@override_settings(BACKBEAT={})
def test_the_default_is_that_of_the_contract(name, value):
    assert getattr(settings, name) == value


def test_retention_is_ninety_days():
    assert OPTIONS["RETENTION"].default == OPTIONS["KEY_RETENTION"].default == 90


def test_overriding_works_at_once_and_ends_at_once():
    before = settings.lease
    with override_settings(BACKBEAT={"LEASE": 7}):
        assert settings.lease == 7
    assert settings.lease == before


@pytest.mark.parametrize("name", ["max_retries", "default_timeout"])
def test_none_is_a_value_where_it_may_be(name):
    with override_settings(BACKBEAT={name.upper(): None}):
        assert getattr(settings, name) is None


def test_a_project_without_the_dictionary_has_the_defaults(settings):
    from backbeat_celery.conf import settings as ours

    del settings.BACKBEAT
    assert ours.lease == 30


def test_every_key_says_what_it_means():
    assert all(option.help.endswith(".") for option in OPTIONS.values())

"""What a task says about its retries: delays, limits, and whose default counts."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest
from celery import current_app, shared_task

from backbeat_celery import NodeTask, node_task
from backbeat_celery.inputs.policy import kept_options, policy_by_name, policy_for
from backbeat_celery.models import Node

STEADY = {"retry_jitter": False}


def policy(base: Any = NodeTask, **options: Any):
    """The policy of a task with those options."""

    name = f"tests.policy.{next(numbers)}"

    @shared_task(base=base, name=name, **options)
    def handler() -> None:
        """Never called."""

    return policy_by_name(name)


numbers = count()


@pytest.mark.parametrize(
    ("options", "delays"),
    [
        ({}, [30, 60, 120, 240]),  # the settings' base, doubled
        ({"default_retry_delay": 5}, [5, 10, 20, 40]),
        ({"retry_backoff": True, "default_retry_delay": 5}, [5, 10, 20, 40]),
        ({"retry_backoff": 3, "default_retry_delay": 5}, [3, 6, 12, 24]),  # a number is the base
        ({"retry_backoff": 0.5}, [0.5, 1, 2, 4]),
        ({"retry_backoff": 1}, [1, 2, 4, 8]),  # 1 is a number, though 1 == True
        ({"retry_backoff": False, "default_retry_delay": 5}, [5, 5, 5, 5]),
        ({"retry_backoff_max": 50}, [30, 50, 50, 50]),
        ({"default_retry_delay": 3000}, [3000, 3600, 3600, 3600]),  # the settings' cap
        ({"default_retry_delay": 0}, [0, 0, 0, 0]),
        ({"retry_kwargs": {"countdown": 7}}, [7, 7, 7, 7]),  # Celery's own spelling
    ],
)
def test_the_delay_follows_the_formula(options, delays):
    told = policy(**STEADY, **options)
    assert [told.delay(n) for n in (1, 2, 3, 4)] == delays


@pytest.mark.parametrize("failures", [1, 2, 5, 100])
def test_jitter_stays_within_a_fifth(failures):
    expected = policy(**STEADY).delay(failures)
    drawn = [policy_by_name(jittery.name).delay(failures) for _ in range(500)]
    assert expected * 0.8 <= min(drawn) < expected * 0.9
    assert expected * 1.1 < max(drawn) <= expected * 1.2


@node_task(name="tests.policy.jittery")
def jittery() -> None:
    """Has jitter, as nodes have by default."""


def test_countless_failures_do_not_overflow():
    assert policy(**STEADY).delay(10**6) == 3600


@pytest.mark.parametrize(
    ("base", "options", "limit"),
    [
        (NodeTask, {}, 6),  # the settings'
        (NodeTask, {"max_retries": 2}, 2),
        (NodeTask, {"max_retries": 0}, 0),
        (NodeTask, {"max_retries": None}, None),  # for ever
        (None, {}, 3),  # what its author knows of Celery
        (None, {"max_retries": 8}, 8),
        (None, {"max_retries": None}, None),
        (None, {"autoretry_for": (KeyError,), "retry_kwargs": {"max_retries": 1}}, 1),
        (None, {"autoretry_for": (KeyError,), "max_retries": 4}, 4),
    ],
)
def test_max_retries_is_the_tasks_own_or_the_settings(base, options, limit):
    assert policy(base, **options).max_retries == limit


@pytest.mark.parametrize(
    ("options", "delays"),
    [
        ({}, [180, 180, 180, 180]),
        ({"default_retry_delay": 5}, [5, 5, 5, 5]),
        ({"retry_kwargs": {"countdown": 7}}, [7, 7, 7, 7]),
        ({"retry_backoff": True}, [1, 2, 4, 8]),
        ({"retry_backoff": 3}, [3, 6, 12, 24]),
        ({"retry_backoff": 3, "retry_kwargs": {"countdown": 7}}, [3, 6, 12, 24]),
        ({"retry_backoff": 300}, [300, 600, 600, 600]),
        ({"retry_backoff": 300, "retry_backoff_max": 900}, [300, 600, 900, 900]),
    ],
)
def test_a_plain_task_waits_as_celery_would(options, delays):
    told = policy(None, autoretry_for=(OSError,), retry_jitter=False, **options)
    assert [told.delay(n) for n in (1, 2, 3, 4)] == delays


def test_a_plain_tasks_jitter_is_celerys():
    told = policy(None, autoretry_for=(OSError,), retry_backoff=100)
    drawn = [told.delay(1) for _ in range(500)]
    assert 0 <= min(drawn) < 20
    assert 80 < max(drawn) <= 100


@pytest.mark.parametrize(
    ("base", "options", "error", "final"),
    [
        (NodeTask, {}, KeyError(), False),
        (NodeTask, {}, None, False),  # a timeout
        (NodeTask, {"dont_autoretry_for": (LookupError,)}, KeyError(), True),
        (None, {}, KeyError(), True),
        (None, {}, None, True),
        (None, {"autoretry_for": (LookupError,)}, KeyError(), False),
        (None, {"autoretry_for": (LookupError,)}, OSError(), True),
        (None, {"autoretry_for": (LookupError,)}, None, True),
        (None, {"autoretry_for": (Exception,)}, None, False),
        (
            None,
            {"autoretry_for": [LookupError], "dont_autoretry_for": [KeyError]},
            KeyError(),
            True,
        ),
    ],
)
def test_which_errors_are_final(base, options, error, final):
    assert policy(base, **options).gives_up_on(error) == final


def test_options_may_come_from_a_base_class():
    class Patient(NodeTask):
        abstract = True
        max_retries = 9
        default_retry_delay = 11

    told = policy(Patient, **STEADY)
    assert (told.max_retries, told.delay(1)) == (9, 11)


def test_settings_are_read_each_time(settings):
    settings.BACKBEAT = {
        "MAX_RETRIES": None,
        "RETRY_DELAY": 2,
        "RETRY_BACKOFF_MAX": 5,
        "DEFAULT_TIMEOUT": None,
    }
    told = policy(**STEADY)
    assert (told.max_retries, told.timeout) == (None, None)
    assert [told.delay(n) for n in (1, 2, 3)] == [2, 4, 5]


@pytest.mark.parametrize(
    ("own", "asked", "failures", "exhausted"),
    [
        (2, None, 2, False),
        (2, None, 3, True),
        (0, None, 1, True),  # no retry at all
        (None, None, 10**6, False),
        (2, 5, 5, False),  # self.retry(max_retries=5)
        (2, 0, 1, True),
        (None, 1, 2, True),
    ],
)
def test_retries_are_exhausted_by_one_failure_more_than_the_limit(own, asked, failures, exhausted):
    assert policy(max_retries=own).is_exhausted(failures, asked) == exhausted


def test_other_options_of_the_task_are_taken():
    told = policy(timeout=7, atomic=True, throws=(KeyError,), dont_autoretry_for=(OSError,))
    assert (told.timeout, told.atomic, told.log_without_traceback) == (7, True, (KeyError,))
    assert told.no_retry == (OSError,)


def test_timeout_none_is_never():
    assert policy(timeout=None).timeout is None


def test_a_task_that_is_not_known_here_has_the_settings_policy():
    assert policy_by_name("no.such.task").max_retries == 6


class Mild(OSError):
    """Derived from what a task names."""


@pytest.mark.parametrize("base", [NodeTask, None])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_retries": None, "rescue": "tests.policy.jittery"},
        {"max_retries": 0, "retry_backoff": 3, "retry_backoff_max": 9, "retry_jitter": False},
        {"retry_backoff": False, "default_retry_delay": 7, "dont_autoretry_for": (OSError,)},
        {"autoretry_for": (OSError,), "retry_kwargs": {"max_retries": 1, "countdown": 4}},
        {"autoretry_for": (Exception,), "retry_backoff": True},
    ],
)
def test_what_a_node_keeps_decides_as_its_task(base, options, monkeypatch):
    known = policy(base, **options)
    name = f"tests.policy.{next(numbers) - 1}"
    node = Node(task=name, options=json.loads(json.dumps(kept_options(name))))
    monkeypatch.delitem(current_app.tasks, name)
    kept = policy_for(node)
    same = ("max_retries", "base_delay", "backoff", "backoff_max", "jitter", "rescue")
    assert [getattr(kept, field) for field in same] == [getattr(known, field) for field in same]
    for error in (None, ValueError(), Mild(), KeyError()):
        assert kept.gives_up_on(error) == known.gives_up_on(error)


def test_a_node_keeps_nothing_where_the_settings_decide():
    policy()
    assert kept_options(f"tests.policy.{next(numbers) - 1}") == {}

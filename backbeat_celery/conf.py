"""The settings: one dictionary `BACKBEAT` in the Django settings.

Each property reads its key on each access, so that overriding settings works in tests; only
the place of the dictionary is cached. `checks.py` reports wrong values at start; here values
are taken as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings as django_settings
from django.core.signals import setting_changed

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


def seconds(value: Any) -> Any:
    """Give a timedelta in seconds, and anything else as it is."""
    return value / SECOND if isinstance(value, timedelta) else value


@dataclass(frozen=True, slots=True)
class Option:
    """One key of `BACKBEAT`: its default, what it accepts and what it means."""

    default: Any
    kinds: tuple[type, ...]
    help: str
    minimum: float | None = None
    nullable: bool = False


DURATION = (int, float, timedelta)

OPTIONS: Mapping[str, Option] = {
    "LEASE": Option(30, DURATION, "Seconds without renewal after which an attempt is lost.", 1),
    "SWEEP_INTERVAL": Option(5, DURATION, "Seconds between two repair passes.", 0.1),
    "PUBLISH_HORIZON": Option(
        60, DURATION, "A message is published at most this many seconds before it is due.", 0
    ),
    "MAX_RETRIES": Option(
        6, (int,), "Failed attempts that are retried; None retries for ever.", 0, nullable=True
    ),
    "RETRY_DELAY": Option(30, DURATION, "Seconds before the first retry.", 0),
    "RETRY_BACKOFF_MAX": Option(3600, DURATION, "Longest delay between retries, seconds.", 0),
    "MAX_LOST_ATTEMPTS": Option(
        3, (int,), "Attempts lost in a row after which a node is failed.", 1
    ),
    "DEFAULT_TIMEOUT": Option(
        3600,
        DURATION,
        "Seconds until an attempt counts as failed; None: never.",
        0.001,
        nullable=True,
    ),
    "UNKNOWN_TASK_GRACE": Option(
        3600, DURATION, "Seconds a node may wait for a worker that knows its task.", 0
    ),
    "MAX_PAYLOAD": Option(
        256 * 1024, (int,), "Largest arguments, result or metadata as JSON, in bytes.", 64
    ),
    "MAX_INPUT": Option(
        16 * 1024 * 1024,
        (int,),
        "Most that one attempt gets of the results of other nodes as JSON, in bytes.",
        64,
    ),
    "RETENTION": Option(90, DURATION, "Days that finished workflows are kept.", 0),
    "KEY_RETENTION": Option(90, DURATION, "Days that idempotency keys are kept.", 0),
    "ADMIN_TASKS": Option(
        None,
        (list, tuple, set, frozenset),
        "Names, or patterns such as 'shop.tasks.*', of the tasks that may be signalled from the "
        "admin; None: every task of the project.",
        nullable=True,
    ),
    "REDACT": Option(
        (), (list, tuple, set, frozenset), "Names of arguments whose values are not shown."
    ),
    "MAIL_ADMINS": Option(False, (bool,), "Whether ADMINS get a mail when a node fails."),
    "DATABASES": Option(
        (), (list, tuple), "Aliases to sweep; empty: the one that the router names for nodes."
    ),
}
"""Every key of `BACKBEAT` with its default."""


class Settings:
    """Typed access to `BACKBEAT`."""

    def __init__(self) -> None:
        self._values: Mapping[str, Any] | None = None
        # Sent when a test overrides Django's settings.
        setting_changed.connect(self._forget, weak=False)

    def _forget(self, **_: Any) -> None:
        self._values = None

    @property
    def user_values(self) -> Mapping[str, Any]:
        """What the project has set in its settings module."""
        if self._values is None:
            self._values = getattr(django_settings, "BACKBEAT", {})
        return self._values

    def _get(self, key: str) -> Any:
        return self.user_values.get(key, OPTIONS[key].default)

    def _seconds(self, key: str) -> float:
        return float(seconds(self._get(key)))

    def _days(self, key: str) -> float:
        value = self._get(key)
        return value / DAY if isinstance(value, timedelta) else float(value)

    @property
    def lease(self) -> float:
        return self._seconds("LEASE")

    @property
    def sweep_interval(self) -> float:
        return self._seconds("SWEEP_INTERVAL")

    @property
    def publish_horizon(self) -> float:
        return self._seconds("PUBLISH_HORIZON")

    @property
    def max_retries(self) -> int | None:
        value: int | None = self._get("MAX_RETRIES")
        return value

    @property
    def retry_delay(self) -> float:
        return self._seconds("RETRY_DELAY")

    @property
    def retry_backoff_max(self) -> float:
        return self._seconds("RETRY_BACKOFF_MAX")

    @property
    def max_lost_attempts(self) -> int:
        return int(self._get("MAX_LOST_ATTEMPTS"))

    @property
    def default_timeout(self) -> float | None:
        value = self._get("DEFAULT_TIMEOUT")
        return None if value is None else float(seconds(value))

    @property
    def unknown_task_grace(self) -> float:
        return self._seconds("UNKNOWN_TASK_GRACE")

    @property
    def max_payload(self) -> int:
        return int(self._get("MAX_PAYLOAD"))

    @property
    def max_input(self) -> int:
        return int(self._get("MAX_INPUT"))

    @property
    def retention(self) -> float:
        return self._days("RETENTION")

    @property
    def key_retention(self) -> float:
        return self._days("KEY_RETENTION")

    @property
    def redact(self) -> frozenset[str]:
        return frozenset(self._get("REDACT"))

    @property
    def admin_tasks(self) -> frozenset[str] | None:
        value = self._get("ADMIN_TASKS")
        return None if value is None else frozenset(value)

    @property
    def mail_admins(self) -> bool:
        return bool(self._get("MAIL_ADMINS"))

    @property
    def databases(self) -> Sequence[str]:
        value: Sequence[str] = self._get("DATABASES")
        return value


settings = Settings()

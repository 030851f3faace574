"""What a task says about its retries and limits, and what follows for a node.

Options are read from the task's attributes under Celery's own names. Celery gives every
task a value for some of them; only a value that the task's author wrote counts here,
otherwise the settings decide.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from celery import Task, current_app

from backbeat_celery.conf import settings


@dataclass(frozen=True, slots=True)
class Policy:
    """Retries and limits of one task; times in seconds."""

    max_retries: int | None
    base_delay: float
    backoff: bool
    backoff_max: float
    jitter: bool
    fatal: tuple[type[BaseException], ...]
    quiet: tuple[type[BaseException], ...]
    timeout: float | None
    atomic: bool
    rescue: str = ""
    """The name of the task that is called once when retries are exhausted."""

    def delay(self, failures: int) -> float:
        """Seconds to wait after failure number `failures`, counted from 1."""
        exponent = failures - 1 if self.backoff else 0
        # Powers beyond this only overflow; every delay is capped long before.
        delay = min(self.base_delay * 2.0 ** min(exponent, 512), self.backoff_max)
        if not self.backoff:
            delay = self.base_delay
        return delay * random.uniform(0.8, 1.2) if self.jitter else delay

    def is_exhausted(self, failures: int, max_retries: int | None = None) -> bool:
        """Tell whether that many failures are too many; `max_retries` overrides the task's."""
        limit = self.max_retries if max_retries is None else max_retries
        return limit is not None and failures > limit


def policy_of(task: Task[Any, Any]) -> Policy:
    """Read the policy from a task."""
    retry_kwargs = getattr(task, "retry_kwargs", None) or {}
    backoff = getattr(task, "retry_backoff", True)
    base = retry_kwargs.get("countdown", _own(task, "default_retry_delay", settings.retry_delay))
    if backoff is not True and backoff:
        base = float(backoff)
    return Policy(
        max_retries=retry_kwargs.get(
            "max_retries", _own(task, "max_retries", settings.max_retries)
        ),
        base_delay=float(base),
        backoff=bool(backoff) and "countdown" not in retry_kwargs,
        backoff_max=float(getattr(task, "retry_backoff_max", settings.retry_backoff_max)),
        # A wait that the author wrote down is kept to the second, as Celery does.
        jitter=bool(getattr(task, "retry_jitter", True)) and "countdown" not in retry_kwargs,
        fatal=tuple(getattr(task, "dont_autoretry_for", ())),
        quiet=tuple(task.throws or ()),
        timeout=getattr(task, "timeout", settings.default_timeout),
        atomic=bool(getattr(task, "atomic", False)),
        rescue=rescue_name(task),
    )


def rescue_name(task: Task[Any, Any]) -> str:
    """The name of a task's rescue, which is given as a task or by name; empty if it has none."""
    rescue = getattr(task, "rescue", None) or ""
    return rescue if isinstance(rescue, str) else str(rescue.name)


def _own(task: Task[Any, Any], name: str, default: Any) -> Any:
    """Read an attribute unless it is only Celery's default for all tasks."""
    if name in vars(task):
        return vars(task)[name]
    for cls in type(task).__mro__:
        if cls is Task:
            break
        if name in vars(cls):
            return vars(cls)[name]
    return default


def policy_by_name(task_name: str) -> Policy:
    """Read the policy of a registered task; for one not known here, the settings' policy."""
    return policy_of(current_app.tasks.get(task_name) or _UNKNOWN)


_UNKNOWN: Task[Any, Any] = Task()

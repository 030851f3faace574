"""The retry policy of a task, and what follows for a node.

Options are read from the task's attributes under Celery's own names. There are two rules.
Any error of a NodeTask is retried: Celery gives every task a value for some options, of which
only those count that the task itself sets, and otherwise the settings decide. Any other task
keeps the rule that it has in Celery, with Celery's defaults.

What differs from the settings is stored with each node when it is created, so that a process
without the task decides as one that has it; callers use `policy_for`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from celery import Task

from backbeat_celery.conf import seconds, settings
from backbeat_celery.inputs.task_registry import known_task
from backbeat_celery.runtime.backoff import exponential

if TYPE_CHECKING:
    from backbeat_celery.inputs.node_spec import NodeSpec
    from backbeat_celery.models import Node

Kinds = tuple[type[BaseException] | str, ...]
"""Exception types, or the names of those that cannot be imported here."""

KEPT = ("max_retries", "base_delay", "backoff", "backoff_max", "jitter", "rescue")
"""What is stored with a node where it differs from the settings."""

SENT = ("queue", "exchange", "routing_key", "priority", "time_limit", "soft_time_limit")
"""Message options of a task; stored as well, for processes that publish without the task."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Retries and limits of one task; times in seconds."""

    max_retries: int | None
    base_delay: float
    backoff: bool
    backoff_max: float
    jitter: tuple[float, float] | None
    """The range of the random factor of a delay; None: no jitter."""
    no_retry: Kinds
    log_without_traceback: tuple[type[BaseException], ...]
    timeout: float | None
    atomic: bool
    lazy_input: bool = False
    """Whether the handler gets a list of values as a sequence that reads them when used."""
    rescue: str = ""
    """The name of the task that is called once when retries are exhausted."""
    retried: Kinds | None = None
    """Errors that are retried unless `no_retry` names them; None: all of them."""

    def gives_up_on(self, error: BaseException | None) -> bool:
        """Tell whether a failure is final by its kind.

        Without an error it is one that no handler raised, such as a timeout: it is retried where
        every Exception is.
        """
        if error is not None and _is_one(type(error), self.no_retry):
            return True
        kind = Exception if error is None else type(error)
        return self.retried is not None and not _is_one(kind, self.retried)

    def delay(self, failures: int) -> float:
        """Seconds to wait after failure number `failures`, counted from 1."""
        delay = self.delay_without_jitter(failures)
        return delay if self.jitter is None else delay * random.uniform(*self.jitter)

    def delay_without_jitter(self, failures: int) -> float:
        """Seconds to wait, on average if the jitter is symmetric."""
        if not self.backoff:
            return self.base_delay
        return exponential(self.base_delay, failures - 1, self.backoff_max)

    def is_exhausted(self, failures: int, max_retries: int | None = None) -> bool:
        """Tell whether that many failures are too many; `max_retries` overrides the task's."""
        limit = self.max_retries if max_retries is None else max_retries
        return limit is not None and failures > limit


def policy_for(node: Node) -> Policy:
    """Give the policy of a node: its task's own, or what was stored of it.

    For a node whose task is another code base's, the settings decide.
    """
    known = None if node.remote else known_task(node.task)
    policy = policy_of(known) if known is not None else _kept_policy(node.options)
    return with_own(policy, node.options)


def with_own(policy: Policy, options: Mapping[str, Any]) -> Policy:
    """Put what was given for this node alone before what its task says."""
    return replace(policy, **options[OWN]) if OWN in options else policy


def has_own_limit(options: Mapping[str, Any]) -> bool:
    """Tell whether a limit of retries was given for this node alone."""
    return "max_retries" in options.get(OWN, ())


def policy_by_name(task: str) -> Policy:
    """The policy of a task; for one that is not known here, the settings' policy."""
    known = known_task(task)
    return policy_of(known) if known is not None else usual_policy()


LAZY = "lazy"
"""The value of a task's option `input` with which it gets a list as a lazy sequence."""

OWN = "own"
"""The key of a node's options with the part of its policy that was given for it alone."""

NODE_JITTER = (0.8, 1.2)
CELERY_JITTER = (0.0, 1.0)
CELERY_BACKOFF_MAX = 600


def policy_of(task: Task[Any, Any]) -> Policy:
    """Read the policy from a task."""
    retries = _of_node_task(task) if is_node_task(task) else _of_plain_task(task)
    return Policy(
        **retries,
        no_retry=tuple(getattr(task, "dont_autoretry_for", ())),
        log_without_traceback=(task.throws,)
        if isinstance(task.throws, type)
        else tuple(task.throws or ()),
        timeout=seconds(task.timeout if hasattr(task, "timeout") else settings.default_timeout),
        atomic=bool(getattr(task, "atomic", False)),
        lazy_input=getattr(task, "input", None) == LAZY,
        rescue=rescue_name(task),
    )


def is_node_task(task: Task[Any, Any]) -> bool:
    """Tell whether a task was written as a node, and not for Celery alone."""
    return bool(getattr(task, "is_node_task", False))


def _of_node_task(task: Task[Any, Any]) -> dict[str, Any]:
    retry_kwargs = getattr(task, "retry_kwargs", None) or {}
    backoff = getattr(task, "retry_backoff", True)
    base = retry_kwargs.get("countdown", _own(task, "default_retry_delay", settings.retry_delay))
    if backoff is not True and backoff:
        base = backoff
    # An explicit countdown gets no jitter, as in Celery.
    drawn = bool(getattr(task, "retry_jitter", True)) and "countdown" not in retry_kwargs
    return {
        "max_retries": retry_kwargs.get(
            "max_retries", _own(task, "max_retries", settings.max_retries)
        ),
        "base_delay": float(seconds(base)),
        "backoff": bool(backoff) and "countdown" not in retry_kwargs,
        "backoff_max": float(
            seconds(getattr(task, "retry_backoff_max", settings.retry_backoff_max))
        ),
        "jitter": NODE_JITTER if drawn else None,
    }


def _of_plain_task(task: Task[Any, Any]) -> dict[str, Any]:
    """What `celery.app.autoretry` makes of the same options."""
    retry_kwargs = getattr(task, "retry_kwargs", None) or {}
    backoff = float(getattr(task, "retry_backoff", False))
    own_delay, own_limit = retry_kwargs.get("countdown"), retry_kwargs.get("max_retries")
    delay = seconds(task.default_retry_delay if own_delay is None else own_delay)
    drawn = bool(backoff and getattr(task, "retry_jitter", True))
    return {
        "max_retries": task.max_retries if own_limit is None else own_limit,
        "base_delay": float(int(max(1.0, backoff)) if backoff else delay),
        "backoff": bool(backoff),
        "backoff_max": float(getattr(task, "retry_backoff_max", CELERY_BACKOFF_MAX)),
        "jitter": CELERY_JITTER if drawn else None,
        "retried": tuple(getattr(task, "autoretry_for", ())),
    }


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


def kept_options(name: str) -> dict[str, Any]:
    """What is stored of a task's policy with a new node: what differs from the settings."""
    task = known_task(name)
    if task is None:
        return {}
    values = settings.user_values
    read_with, kept = _read.get(task, (None, {}))
    if read_with is not values:
        kept = {"policy": found} if (found := _to_keep(task)) else {}
        _read[task] = values, kept
    return kept


def rescue_options(node: Node, rescue: str) -> dict[str, Any]:
    """What is stored of its policy with a rescue, also where its task is not known."""
    if known_task(rescue) is not None:
        return kept_options(rescue)
    kept = node.options.get("policy", {}).get("rescue_policy")
    return {"policy": kept} if kept else {}


def _to_keep(task: Task[Any, Any]) -> dict[str, Any]:
    """A task's policy as JSON, without what is the settings'; with that of its rescue."""
    kept = _differing(task)
    rescue = known_task(kept.get("rescue", ""))
    if rescue is not None and (own := _differing(rescue)):
        kept["rescue_policy"] = own
    return kept


def _differing(task: Task[Any, Any]) -> dict[str, Any]:
    policy, usual = policy_of(task), usual_policy()
    kept = {
        name: value for name in KEPT if (value := getattr(policy, name)) != getattr(usual, name)
    }
    for name in ("no_retry", "retried"):
        if (kinds := getattr(policy, name)) != getattr(usual, name):
            kept[name] = [_type_name(kind) for kind in kinds]
    if sent := sent_options(task):
        kept["sent"] = sent
    return kept


def sent_options(task: Task[Any, Any]) -> dict[str, Any]:
    """The message options of a task, as JSON."""
    said = {name: seconds(getattr(task, name, None)) for name in SENT}
    if said["priority"] == task.app.conf.task_default_priority:
        del said["priority"]  # Celery writes it on each task
    return {
        # A queue or an exchange may be one of kombu's, with a name.
        name: value if isinstance(value, (str, int, float)) else str(getattr(value, "name", value))
        for name, value in said.items()
        if value is not None
    }


def kept_sent_options(node: Node | NodeSpec) -> dict[str, Any]:
    """The message options stored with a node, where its task is not known here."""
    kept: dict[str, Any] = node.options.get("policy", {}).get("sent", {})
    return kept if kept and known_task(node.task) is None else {}


def usual_policy() -> Policy:
    """The policy of the settings alone."""
    return policy_of(_UNKNOWN)


def _kept_policy(options: Mapping[str, Any]) -> Policy:
    kept = options.get("policy", {})
    # JSON has lists only.
    values: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in kept.items() if k in _FIELDS
    }
    return replace(usual_policy(), **values)


def _is_one(kind: type[BaseException], kinds: Kinds) -> bool:
    """Tell whether a type of errors is one of these, or derived from one."""
    if issubclass(kind, tuple(known for known in kinds if not isinstance(known, str))):
        return True
    names = {name for name in kinds if isinstance(name, str)}
    return bool(names) and any(_type_name(base) in names for base in kind.__mro__)


def _type_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


_FIELDS = frozenset({*KEPT, "no_retry", "retried"})


_UNKNOWN: Task[Any, Any] = Task()
_UNKNOWN.is_node_task = True  # type: ignore[attr-defined]
_read: WeakKeyDictionary[Task[Any, Any], tuple[Any, dict[str, Any]]] = WeakKeyDictionary()

"""Validate the options and the handler of a task where they are written.

`@node_task` and the class statement of a NodeTask raise at once; `signal()`,
`manage.py check` and the worker that is to run a node look at the finished task.
"""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from functools import partial
from typing import Any
from weakref import WeakSet

from celery import Task
from celery.local import Proxy
from celery.utils.time import rate
from kombu.compression import get_encoder

from backbeat_celery.conf import seconds
from backbeat_celery.exceptions import BadInput
from backbeat_celery.runtime.compat.celery import decorated_function, handler_of
from backbeat_celery.runtime.text import quote
from backbeat_celery.states import Mode

LONGEST_DELAY = timedelta(days=365 * 100).total_seconds()
LARGEST_BUNDLE = 1000
LONGEST_NAME = 255
SHORTEST_LIKENESS = 6
"""Letters from which on a name that resembles an option is taken for a typo."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What one option accepts, with the words for messages."""

    accepts: Callable[[Any], bool]
    words: str
    is_duration: bool = False


def is_number(value: Any, least: float, most: float) -> bool:
    """Tell whether a value is a number in a range, and no bool."""
    is_real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_real and least <= value <= most


def _is_whole(value: Any, least: int, most: float) -> bool:
    return type(value) is int and least <= value <= most


def _is_limit(value: Any) -> bool:
    return value is None or _is_whole(value, 0, math.inf)


def _is_delay(value: Any) -> bool:
    return is_number(seconds(value), 0, LONGEST_DELAY)


def _is_time_limit(value: Any) -> bool:
    return value is None or (_is_delay(value) and seconds(value) > 0)


def _is_error(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _are_errors(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and all(map(_is_error, value))


def _is_rate(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and rate(value) >= 0
    except (TypeError, ValueError, KeyError, AttributeError):
        return False


def _is_rescue(value: Any) -> bool:
    # A proxy may stand for a task that is not made yet, and isinstance() would evaluate it.
    return value is None or issubclass(type(value), (str, Proxy, Task))


def _is_entity(value: Any) -> bool:
    # A queue or an exchange may be one of kombu's; brokers know names of at most 255 bytes.
    name = value if value is None else getattr(value, "name", value)
    return name is None or (isinstance(name, str) and len(name.encode()) <= LONGEST_NAME)


def _is_compression(value: Any) -> bool:
    return value is None or (isinstance(value, str) and bool(get_encoder(value)))


def _are_retry_kwargs(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, Mapping) or not _is_limit(value.get("max_retries")):
        return False
    return value.get("countdown") is None or _is_delay(value["countdown"])


_DELAY = "a number of seconds or a timedelta, from 0 to 100 years"
_TIME_LIMIT = "a number of seconds or a timedelta, more than 0 and at most 100 years, or None"
_YES_OR_NO = "True or False"
_ERRORS = "a tuple of exception classes"
_ENTITY = "a name of at most 255 bytes"


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


RULES: Mapping[str, Rule] = {
    "max_retries": Rule(_is_limit, "a whole number from 0 on, or None for no limit"),
    "default_retry_delay": Rule(_is_delay, _DELAY, is_duration=True),
    "retry_backoff": Rule(
        lambda value: isinstance(value, bool) or _is_delay(value),
        f"True, False, or {_DELAY}",
        is_duration=True,
    ),
    "retry_backoff_max": Rule(_is_delay, _DELAY, is_duration=True),
    "retry_jitter": Rule(_flag, _YES_OR_NO),
    "retry_kwargs": Rule(
        _are_retry_kwargs, "a dictionary whose max_retries and countdown are such options"
    ),
    "autoretry_for": Rule(_are_errors, _ERRORS),
    "dont_autoretry_for": Rule(_are_errors, _ERRORS),
    "throws": Rule(
        lambda value: _is_error(value) or (isinstance(value, tuple) and _are_errors(value)),
        _ERRORS,
    ),
    "time_limit": Rule(_is_time_limit, _TIME_LIMIT, is_duration=True),
    "soft_time_limit": Rule(_is_time_limit, _TIME_LIMIT, is_duration=True),
    "rate_limit": Rule(_is_rate, "None, a number, or text such as '10/m'"),
    "priority": Rule(
        lambda value: value is None or _is_whole(value, 0, 255), "a whole number from 0 to 255"
    ),
    "queue": Rule(_is_entity, _ENTITY),
    "exchange": Rule(_is_entity, _ENTITY),
    "routing_key": Rule(_is_entity, _ENTITY),
    "compression": Rule(_is_compression, "one that kombu knows, such as 'zlib'"),
    "timeout": Rule(_is_time_limit, f"{_TIME_LIMIT} for never", is_duration=True),
    "awaits_completion": Rule(_flag, _YES_OR_NO),
    "atomic": Rule(_flag, _YES_OR_NO),
    "mode": Rule(
        lambda value: value is None or value in Mode.values, f"one of {', '.join(Mode.values)}"
    ),
    "bundle": Rule(
        lambda value: value is None or _is_whole(value, 1, LARGEST_BUNDLE),
        f"a whole number from 1 to {LARGEST_BUNDLE}",
    ),
    "input": Rule(lambda value: value is None or value == "lazy", "'lazy' or None"),
    "rescue": Rule(_is_rescue, "a task or the name of one"),
}
"""Every option that a node's task may have and that we read."""

DURATIONS = frozenset(name for name, rule in RULES.items() if rule.is_duration)

_CELERYS = frozenset({"name", "base", "bind", "lazy", "shared", "app", "queue", "exchange"}) | {
    name for name in dir(Task) if not name.startswith("_")
}
_LONG_NAMES = sorted(name for name in _CELERYS | RULES.keys() if len(name) >= SHORTEST_LIKENESS)


def problems_of(owner: str, values: Mapping[str, Any]) -> list[str]:
    """Say of each option that has a wrong value what it is and what it may be."""
    return [
        f"{owner}: {name} is {quote(values[name])}, but must be {rule.words}."
        for name, rule in RULES.items()
        if name in values and not _is_accepted(rule, values[name])
    ]


def _is_accepted(rule: Rule, value: Any) -> bool:
    try:
        return rule.accepts(value)
    except Exception:  # a value whose own comparison fails
        return False


def misspelt(owner: str, names: Iterable[str]) -> list[str]:
    """Say of each name that is nearly an option's which one may be meant.

    Any other name is the author's own: Celery makes it an attribute of the task.
    """
    told = []
    for name in names:
        if name in RULES or name in _CELERYS or name.startswith("_"):
            continue
        if near := get_close_matches(name, _LONG_NAMES, n=1, cutoff=0.8):
            told.append(f"{owner} has no option {name}; did you mean {near[0]}?")
    return told


def in_seconds(options: Mapping[str, Any]) -> dict[str, Any]:
    """Give options with their timedeltas as seconds, which is what Celery knows."""
    return {
        name: seconds(value) if name in DURATIONS else value for name, value in options.items()
    }


def refuse(problems: Iterable[str]) -> None:
    """Raise BadInput if there are complaints."""
    if told := list(problems):
        raise BadInput(" ".join(told))


def handler_problems(owner: str, handler: Any) -> list[str]:
    """Say why a handler would never run, if calling it only makes something to be run."""
    while isinstance(handler, partial):
        handler = handler.func
    kinds: list[tuple[Callable[[Any], bool], str]] = [
        (inspect.iscoroutinefunction, "async def"),
        (inspect.isasyncgenfunction, "async def with yield"),
        (inspect.isgeneratorfunction, "a generator"),
    ]
    return [
        f"{owner}: its handler is {kind}, which a worker calls but never runs. Write an ordinary "
        "function; it may call asyncio.run() or exhaust the generator."
        for is_kind, kind in kinds
        if is_kind(handler)
    ]


def refuse_unrun(result: Any, owner: str) -> None:
    """Raise BadInput for a result that is a coroutine or generator which never runs."""
    if not isinstance(result, _UNRUN):
        return
    if isinstance(result, types.CoroutineType):
        result.close()  # else Python warns of a coroutine that was never awaited
    raise BadInput(
        f"{owner}: the handler returned a {type(result).__name__}, which a worker never runs. "
        "Write an ordinary function; it may call asyncio.run() or exhaust the generator."
    )


_UNRUN = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)


def task_problems(task: Task[Any, Any]) -> list[str]:
    """Say everything that is wrong with a registered task's options and its handler."""
    values = {name: getattr(task, name) for name in RULES if hasattr(task, name)}
    handlers = [handler_of(task), decorated_function(task)]
    told = [said for handler in handlers for said in handler_problems(task.name, handler)]
    told += problems_of(task.name, values)
    if getattr(task, "is_node_task", False):
        told += misspelt(task.name, written_on(type(task)))
    return list(dict.fromkeys(told))


def written_on(cls: type[Any]) -> list[str]:
    """Names of plain values in the classes of a NodeTask."""
    names: list[str] = []
    for base in cls.__mro__:
        own = vars(base)
        if "is_node_task" in own or base is Task:
            break
        if "node_class" not in own:
            names += plain_names(own)
    return names


def plain_names(own: Mapping[str, Any]) -> list[str]:
    """Names in a class that stand for values and not for methods."""
    return [name for name, value in own.items() if _is_plain(value)]


def _is_plain(value: Any) -> bool:
    return not callable(value) and not hasattr(type(value), "__get__")


_sound: WeakSet[type[Any]] = WeakSet()
"""Task classes that were checked; each task has one of its own."""


def check_task(task: Task[Any, Any]) -> None:
    """Raise BadInput if a task cannot run as a node."""
    cls = task.__class__  # also of a proxy
    if cls not in _sound:
        refuse(task_problems(task))
        _sound.add(cls)

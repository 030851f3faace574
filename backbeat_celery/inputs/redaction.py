"""Hide the values of arguments that the setting `REDACT` names.

A name hides its value at any depth, also when the argument was passed by position; a position
whose name is not known is always hidden. Texts in which such a value may have ended
up, such as errors, are scrubbed of it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from celery import Task

from backbeat_celery.conf import settings
from backbeat_celery.inputs.mapped_tasks import MAP, STARMAP
from backbeat_celery.inputs.task_registry import known_task
from backbeat_celery.runtime.compat.celery import handler_of
from backbeat_celery.runtime.text import ELLIPSIS
from backbeat_celery.states import Input

if TYPE_CHECKING:
    from backbeat_celery.inputs.node_spec import NodeSpec
    from backbeat_celery.models import Node

HIDDEN = "•••"
"""Stands where a value is hidden."""

SHORT = 4
"""Characters below which a value is scrubbed from texts where it stands alone only."""

SHORTEST_REST = 2
"""Characters of a secret beside a cut from which on they are scrubbed, too."""


def redact(value: Any, mark: str = HIDDEN) -> Any:
    """Give the same value with everything hidden whose key is to be hidden."""
    names = settings.redact
    return _redact(value, names, mark) if names else value


def _redact(value: Any, names: frozenset[str], mark: str) -> Any:
    if isinstance(value, dict):
        return {k: mark if k in names else _redact(v, names, mark) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redact(item, names, mark) for item in value]
    return value


def redact_args(
    task: str, args: Iterable[Any], mark: str = HIDDEN, *, given: int = 0
) -> list[Any]:
    """Give positional arguments with those hidden whose parameters are to be hidden.

    `given` is the number of arguments that the task gets before these, from other nodes.
    """
    if not settings.redact:
        return list(args)
    hidden = hidden_positions(task, list(args), given)
    return [mark if i in hidden else redact(value, mark) for i, value in enumerate(args)]


def redact_kwargs(task: str, kwargs: dict[str, Any], mark: str = HIDDEN) -> dict[str, Any]:
    """Give keyword arguments with everything hidden that is to be hidden.

    What is mapped over a task is hidden as the task's own arguments are.
    """
    if not settings.redact:
        return kwargs
    shown: dict[str, Any] = redact(kwargs, mark)
    if task in {MAP, STARMAP} and isinstance(shown.get("it"), list):
        mapped = str(kwargs.get("task"))
        calls = [redact_args(mapped, args, mark) for args in _mapped(task, kwargs["it"])]
        shown["it"] = calls if task == STARMAP else [arg for (arg,) in calls]
    return shown


def _mapped(task: str, items: Iterable[Any]) -> Iterator[list[Any]]:
    """Give the positional arguments of each call of a task that is mapped over items."""
    for item in items:
        yield list(item) if task == STARMAP and isinstance(item, (list, tuple)) else [item]


def hidden_positions(task: str, args: list[Any], given: int = 0) -> set[int]:
    """Tell which positional arguments of a task are hidden, or have no name that is known."""
    names = settings.redact
    if not names:
        return set()
    known = _positions(known_task(task), names)[given:] if args else []
    shown = {i for i, name in enumerate(known) if name not in names}
    return set(range(len(args))) - shown


def given_arguments(call: Node | NodeSpec) -> int:
    """Tell how many arguments a node gets from others, before its own."""
    return Input(call.input).arguments


def _positions(task: Task[Any, Any] | None, names: frozenset[str]) -> list[str]:
    """The names of the positional parameters; none if they are not certain."""
    if task is None:
        return []
    handler = handler_of(task)  # without what Celery wraps around it
    try:
        parameters = inspect.signature(handler).parameters
    except (TypeError, ValueError):  # a callable without a signature, or with a wrong one
        return []
    if hasattr(handler, "__wrapped__") and names & parameters.keys():
        return []  # a decorator may add arguments of its own, which shifts positions
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return [name for name, parameter in parameters.items() if parameter.kind in positional]


def secrets_of(task: str, args: list[Any], kwargs: dict[str, Any], given: int = 0) -> set[str]:
    """The texts of all values of a call that are hidden."""
    hidden = hidden_positions(task, args, given)
    found = {text for i in hidden for text in _texts(args[i])}
    if task in {MAP, STARMAP} and isinstance(kwargs.get("it"), list):
        for each in _mapped(task, kwargs["it"]):
            found |= secrets_of(str(kwargs.get("task")), each, {})
    return found | secrets_in([args, kwargs])


def secrets_in(value: Any) -> set[str]:
    """The texts of all values in a value that are hidden."""
    names = settings.redact
    return set(_hidden_texts(value, names)) if names else set()


def _hidden_texts(value: Any, names: frozenset[str]) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item) if key in names else _hidden_texts(item, names)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _hidden_texts(item, names)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
    elif value is not None and not isinstance(value, bool) and (text := str(value)):
        yield text


def scrub(text: str | None, secrets: set[str], mark: str = HIDDEN) -> str:
    """Give a text without the secrets that it quotes."""
    text = text or ""
    for secret in sorted(secrets, key=len, reverse=True):
        # Errors and tracebacks hold the repr of values, with escapes.
        escaped = repr(secret)[1:-1]
        for form in {secret, escaped, escaped.replace("'", "\\'")}:
            if len(form) >= SHORT:
                text = text.replace(form, mark)
            else:
                text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", lambda _: mark, text)
            if ELLIPSIS in text:
                text = _scrub_cut(text, form, mark)
    return text


def _scrub_cut(text: str, secret: str, mark: str) -> str:
    """Remove what truncation has left of a secret: its beginning before it, its end after it."""
    parts = text.split(ELLIPSIS)
    for i, part in enumerate(parts):
        longest = min(len(part), len(secret) - 1)
        sizes = range(longest, SHORTEST_REST - 1, -1)
        if i < len(parts) - 1:
            left = next((size for size in sizes if part.endswith(secret[:size])), 0)
            part = part[:-left] + mark if left else part
        if i > 0:
            left = next((size for size in sizes if part.startswith(secret[-size:])), 0)
            part = mark + part[left:] if left else part
        parts[i] = part
    return ELLIPSIS.join(parts)


def quiet(value: Any, secrets: set[str], mark: str = "***") -> Any:
    """Give a value for terminals and logs: what is hidden by name, and the secrets in texts."""
    shown = redact(value, mark)
    return _quiet(shown, secrets, mark) if secrets else shown


def _quiet(value: Any, secrets: set[str], mark: str) -> Any:
    if isinstance(value, dict):
        return {key: _quiet(item, secrets, mark) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_quiet(item, secrets, mark) for item in value]
    return scrub(value, secrets, mark) if isinstance(value, str) else value


def node_secrets(node: Node) -> set[str]:
    """The texts of all values of a node that are hidden; reads them if need be."""
    if not settings.redact:
        return set()
    args, kwargs = list(node.args), dict(node.kwargs)
    hidden = secrets_of(node.task, args, kwargs, given_arguments(node))
    return hidden | secrets_in(node.metadata)


def error_of(node: Node) -> str:
    """A node's error without the secrets that it quotes, for logs, mails and terminals."""
    return told_of(node, node.error)


def told_of(node: Node, text: str | None) -> str:
    """A text about a node, such as a reason, without the secrets that it quotes."""
    return scrub(text, node_secrets(node), "***") if text else ""

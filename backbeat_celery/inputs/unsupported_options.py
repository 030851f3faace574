"""Refuse options of a signature that a node cannot honour, with a sentence for each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from celery import current_app
from kombu.serialization import registry  # type: ignore[attr-defined]

from backbeat_celery.exceptions import see
from backbeat_celery.runtime.text import quote

UNKNOWN = "unknown-options"
"""The anchor for names that are no option at all."""


class Reason(NamedTuple):
    """Why an option is refused, and where the documentation says what to do instead."""

    words: str
    anchor: str


_CANVAS = Reason(
    "is written by Celery for the steps of a canvas: signal the canvas itself",
    "options-of-the-canvas",
)
_IDS = Reason("is written by Celery for each message", "ids")
_CONTENT = Reason("is written by Celery for each message", "message-options")
_SHOWN = Reason("is made from the arguments and REDACT", "message-options")
_SENDER = Reason(
    "is the sender's own: the process that finds a node due publishes it, on a connection of its "
    "own",
    "connections",
)

REASONS: Mapping[str, Reason] = {
    "expiration": Reason(
        "would drop a message that is then sent again: cancel() the node instead", "expiry"
    ),
    **dict.fromkeys(("argsrepr", "kwargsrepr"), _SHOWN),
    **dict.fromkeys(("chain", "chord", "group"), _CANVAS),
    **dict.fromkeys(("origin", "retries", "replaced_task_nesting"), _IDS),
    **dict.fromkeys(("correlation_id", "result_cls", "task_type"), _IDS),
    **dict.fromkeys(("content_type", "content_encoding", "timestamp"), _CONTENT),
    **dict.fromkeys(("connection", "producer", "publisher", "router", "declare"), _SENDER),
    **dict.fromkeys(("mandatory", "immediate", "confirm_timeout"), _SENDER),
}


def refusals(owner: str, names: Iterable[str], allowed: Collection[str]) -> list[str]:
    """Say of each option why a node cannot honour it, in the order of the alphabet."""
    return [f"{owner}: {_refusal(name, allowed)}" for name in sorted(names)]


def _refusal(name: str, allowed: Collection[str]) -> str:
    if reason := REASONS.get(name):
        return f"{name} {reason.words}. {see(reason.anchor)}"
    near = get_close_matches(name, sorted({*REASONS, *allowed}), n=1, cutoff=0.8)
    hint = f"did you mean {near[0]}" if near else f"allowed are {', '.join(sorted(allowed))}"
    return f"{name} is no option that a node's message could carry; {hint}. {see(UNKNOWN)}"


def message_problems(owner: str, options: Mapping[str, Any]) -> list[str]:
    """Say of each option that shapes a message what is wrong with its value.

    A message that cannot be made would leave its node queued for ever.
    """
    return [
        f"{owner}: {name} is {quote(options[name])}, but must be {words}."
        for name, (accepts, words) in _SHAPES.items()
        if name in options and not accepts(options[name])
    ]


def _is_serializer(value: Any) -> bool:
    """Whether it is one that workers of this app accept."""
    if not isinstance(value, str) or value not in registry.name_to_type:
        return False
    accepted = current_app.conf.accept_content
    return value in accepted or registry.name_to_type[value] in accepted


_SHAPES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "serializer": (_is_serializer, "one that Celery's accept_content names"),
    "shadow": (lambda value: isinstance(value, str), "a name"),
    "retry": (lambda value: isinstance(value, bool), "True or False"),
    "retry_policy": (lambda value: isinstance(value, Mapping), "a dictionary"),
}

"""What a canvas will start: its tasks, and its nodes as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from backbeat_celery.inputs.callbacks import all_calls, callbacks_of
from backbeat_celery.inputs.mapped_tasks import MAP, STARMAP
from backbeat_celery.inputs.node_spec import NodeSpec
from backbeat_celery.inspection.canvas_places import BODY, ERRBACK, LINK
from backbeat_celery.states import Container

LONGEST = 100
"""Lines that a page shows."""


def tasks_in(spec: NodeSpec) -> set[str]:
    """Give every task that these nodes, or what follows their end, may call."""
    return {called(call) for call in all_calls(spec)}


def called(call: NodeSpec) -> str:
    """Give the task that a node calls: of a map the one that is mapped, if it is certain."""
    mapped = call.kwargs.get("task")
    is_map = call.task in {MAP, STARMAP} and not call.args and isinstance(mapped, str)
    return str(mapped) if is_map else call.task


def outline(spec: NodeSpec) -> str:
    """Draw what will be started: names only, since arguments may be secret."""
    lines = list(islice(_lines(spec), LONGEST + 1))
    return "\n".join([*lines[:LONGEST], *(["…"] if len(lines) > LONGEST else [])])


def _lines(top: NodeSpec) -> Iterator[str]:
    """Give a line for each node, without recursion, since canvases may be deep."""
    ahead = [(top, _name(top), "", "")]
    while ahead:
        spec, name, indent, branch = ahead.pop()
        yield f"{indent}{branch}{name}"
        below = list(_below(spec))
        if branch:
            indent += "   " if branch.startswith("└") else "│  "
        ahead += [
            (child, text, indent, "├─ " if i else "└─ ")
            for i, (child, text) in enumerate(reversed(below))
        ]


def _below(spec: NodeSpec) -> Iterator[tuple[NodeSpec, str]]:
    """Give the nodes below one, each with what is written for it."""
    for seq, child in enumerate(spec.children):
        is_body = spec.container == Container.CHORD and seq
        yield child, f"{_name(child)} [{BODY}]" if is_body else _name(child)
    found = callbacks_of(spec.options)
    for link in found.links:
        yield link, f"{_name(link)} [{LINK}]"
    for errback in found.errbacks:
        yield errback, f"{_name(errback)} [{ERRBACK}]"


def _name(spec: NodeSpec) -> str:
    return spec.name if called(spec) == spec.task else f"{spec.name} ({called(spec)})"

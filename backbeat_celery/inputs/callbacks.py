"""What is called when a node succeeds or fails, as JSON text that its row keeps.

The callbacks were checked and compiled when the node was created, so the process that makes rows
of them need not know their tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any

from backbeat_celery.inputs import payload
from backbeat_celery.inputs.message_headers import OPTION, STAMPED, STAMPS
from backbeat_celery.inputs.node_spec import CALLBACKS, NodeSpec
from backbeat_celery.runtime.ids import uuid7
from backbeat_celery.states import Input, Mode, Yields


@dataclass(frozen=True, slots=True)
class Callbacks:
    """The nodes that follow the end of one."""

    links: list[NodeSpec] = field(default_factory=list)
    errbacks: list[NodeSpec] = field(default_factory=list)
    rescue: NodeSpec | None = None
    """What was given for this node alone; it comes before its task's."""


def encode_callbacks(callbacks: Callbacks) -> str:
    """Encode compiled callbacks; empty if there are none. Raises BadPayload."""
    described: dict[str, Any] = {
        "links": [_as_json(spec) for spec in callbacks.links],
        "errbacks": [_as_json(spec) for spec in callbacks.errbacks],
    }
    if callbacks.rescue is not None:
        described["rescue"] = _as_json(callbacks.rescue)
    return payload.encode(described, "The callbacks") if any(described.values()) else ""


def callbacks_of(options: Mapping[str, Any]) -> Callbacks:
    """Decode the callbacks that a node's options keep; each node gets a new id."""
    if CALLBACKS not in options:
        return Callbacks()
    described = payload.decode(options[CALLBACKS])
    return Callbacks(
        [_of_json(spec) for spec in described["links"]],
        [_of_json(spec) for spec in described["errbacks"]],
        _of_json(described["rescue"]) if "rescue" in described else None,
    )


def all_calls(spec: NodeSpec) -> Iterator[NodeSpec]:
    """Give all nodes of a subtree that call a task, and those that may follow their end.

    What many nodes share is given once.
    """
    waiting, known = [spec], set[str]()
    while waiting:
        for call in waiting.pop().calls():
            yield call
            if (text := call.options.get(CALLBACKS, "")) not in known:
                known.add(text)
                waiting += following(call)


def following(spec: NodeSpec) -> list[NodeSpec]:
    """Give the nodes that the end of one may start."""
    found = callbacks_of(spec.options)
    return [*found.links, *found.errbacks, *([found.rescue] if found.rescue is not None else [])]


def in_context_of(options: Mapping[str, Any], callbacks: Iterable[NodeSpec]) -> list[NodeSpec]:
    """Give callbacks the headers of the node that has these options, without its stamps."""
    kept = options.get(OPTION, {})
    headers = {k: v for k, v in kept.items() if k not in {STAMPED, STAMPS}}
    return [with_headers(spec, headers) for spec in callbacks]


def with_headers(spec: NodeSpec, headers: Mapping[str, Any]) -> NodeSpec:
    """Add the headers of the node that a call follows to those that it has itself.

    The process that starts it may be a sweeper, whose own context has nothing to do with it.
    """
    if not headers:
        return spec
    children = [with_headers(child, headers) for child in spec.children]
    if not spec.task:
        return replace(spec, children=children)
    options = {**spec.options, OPTION: {**headers, **spec.options.get(OPTION, {})}}
    return replace(spec, options=options)


_PLAIN = tuple(f for f in fields(NodeSpec) if f.name not in {"id", "children"})


def _as_json(spec: NodeSpec) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for known in _PLAIN:
        value = getattr(spec, known.name)
        default = (
            known.default_factory() if known.default_factory is not MISSING else known.default
        )
        if value != default:
            described[known.name] = str(value) if known.name == "mode" else value
    if spec.children:
        described["children"] = [_as_json(child) for child in spec.children]
    return described


def _of_json(described: Mapping[str, Any]) -> NodeSpec:
    values = {k: v for k, v in described.items() if k != "children"}
    values["mode"] = Mode(values["mode"])
    spec = NodeSpec(**values)
    children = [_of_json(child) for child in described.get("children", ())]
    return replace(
        spec,
        id=uuid7(),
        input=Input(spec.input),
        yields=Yields(spec.yields),
        children=children,
    )

"""What must become of a canvas whose tasks fail: no database, no clock, no engine.

The plan is made from the description that the canvas is compiled to. It says where all tasks end
once an operator has decided about each that failed, whatever happened to messages and workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from backbeat_celery.inputs.canvas import task_spec
from backbeat_celery.inputs.node_spec import NodeSpec
from backbeat_celery.states import Container, Input, Yields

LOST = object()
"""The value of what has none: something in it was canceled or given up."""

DOOMED, UNWANTED = 9, -1
"""Numbers of failures: of a task that fails for good, and of one that is canceled at once."""


@dataclass
class Plan:
    """Where every task of a canvas ends, by its label."""

    signature_of: Callable[[Any], Any]
    statuses: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The status and the outcome."""
    given: dict[str, list[Any]] = field(default_factory=dict)
    """What each handler that is called gets."""

    def value_of(self, canvas: Any) -> Any:
        """Follow a canvas to its end."""
        return self._follow(task_spec(canvas), None)

    def _follow(self, spec: NodeSpec, given: Any) -> Any:
        if spec.container == Container.GROUP:
            values = [self._follow(child, given) for child in spec.children]
            return LOST if LOST in values else values
        if spec.container:
            return self._follow_line(spec, given)
        return self._play(spec, given)

    def _follow_line(self, spec: NodeSpec, given: Any) -> Any:
        assert spec.yields == Yields.LAST
        value, is_over = None, False
        for child in spec.children:
            if is_over:
                self._cancel(child)
                value = LOST
                continue
            value = self._follow(child, value if child.input == Input.PREVIOUS else given)
            is_over = self._is_given_up(child)
        return value

    def _is_given_up(self, spec: NodeSpec) -> bool:
        return self.statuses.get(spec.kwargs.get("label", "")) == ("complete", "shutdown")

    def _play(self, spec: NodeSpec, given: Any) -> Any:
        label, failures, fate = (spec.kwargs[name] for name in ("label", "failures", "fate"))
        takes = spec.input != Input.NONE
        if (takes and given is LOST) or failures == UNWANTED:
            return self._cancel(spec)
        args = [*([given] if takes else []), *spec.args]
        self.given[label] = args
        if failures == DOOMED and fate != "retry":
            return self._decide(spec, label, fate)
        self.statuses[label] = ("complete", "succeeded")
        if shape := spec.kwargs["shape"]:
            return self.value_of(self.signature_of(shape))
        return [label, *args]

    def _decide(self, spec: NodeSpec, label: str, fate: str) -> Any:
        if fate == "cancel":
            return self._cancel(spec)
        self.statuses[label] = ("complete", "resolved" if fate == "resolve" else fate)
        return ["resolved", label] if fate == "resolve" else LOST

    def _cancel(self, spec: NodeSpec) -> Any:
        for label in _labels(spec):
            self.statuses[label] = ("canceled", "")
        return LOST


def _labels(spec: NodeSpec) -> Iterable[str]:
    if not spec.container:
        yield spec.kwargs["label"]
    for child in spec.children:
        yield from _labels(child)

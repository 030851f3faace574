"""What must become of a canvas whose tasks fail: no database, no clock, no engine.

The plan is made from the description that the canvas is compiled to. It says where all tasks end
once an operator has decided about each that failed, whatever happened to messages and workers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from backbeat_celery.inputs.canvas import task_spec
from backbeat_celery.inputs.node_spec import NodeSpec
from backbeat_celery.states import Container, Input, Yields

LOST = object()
"""The value of what has none: something in it was canceled or given up."""

DOOMED, UNWANTED = 9, -1
"""Numbers of failures: of a task that fails for good, and of one that is canceled at once."""


Place = tuple[int, ...]
"""Where a node of a canvas is: the number among its siblings, at each level from the outermost."""


@dataclass
class Plan:
    """Where every task of a canvas ends, by its label."""

    signature_of: Callable[[Any], Any]
    statuses: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The status and the outcome."""
    given: dict[str, list[Any]] = field(default_factory=dict)
    """What each handler that is called gets."""
    values: dict[Place, Any] = field(default_factory=dict)
    """The value of each node, containers included."""
    specs: dict[Place, NodeSpec] = field(default_factory=dict)
    """Of each node that must be there."""

    def value_of(self, canvas: Any) -> Any:
        """Follow a canvas to its end."""
        return self._follow(task_spec(canvas), None, ())

    # What an operator does: here, what the arguments say ------------------------------------

    def fate_of(self, spec: NodeSpec, place: Place) -> str:
        """The verb that ends a node, if it does not end by itself."""
        del place
        if spec.container:
            return ""
        failures, fate = spec.kwargs["failures"], spec.kwargs["fate"]
        if failures == UNWANTED:
            return "cancel"
        return str(fate) if failures == DOOMED and fate != "retry" else ""

    def resolved(self, spec: NodeSpec, place: Place) -> Any:
        """The result that a node is resolved with."""
        del place
        return ["resolved", spec.kwargs["label"]]

    def added_to(self, place: Place) -> list[Any]:
        """The values of what was added to a container, behind what it was made of."""
        del place
        return []

    # What follows from it -------------------------------------------------------------------

    def _follow(self, spec: NodeSpec, given: Any, place: Place) -> Any:
        self.specs[place] = spec
        value = (self._follow_all if spec.container else self._play)(spec, given, place)
        self.values[place] = value
        return value

    def _follow_all(self, spec: NodeSpec, given: Any, place: Place) -> Any:
        follow = self._members if spec.container == Container.GROUP else self._line
        value = follow(spec, given, place)
        return LOST if self.fate_of(spec, place) == "cancel" else value

    def _members(self, spec: NodeSpec, given: Any, place: Place) -> Any:
        values = [self._follow(child, given, (*place, n)) for n, child in enumerate(spec.children)]
        values += self.added_to(place)
        return LOST if any(value is LOST for value in values) else values

    def _line(self, spec: NodeSpec, given: Any, place: Place) -> Any:
        assert spec.yields == Yields.LAST
        value, is_over = None, False
        for n, child in enumerate(spec.children):
            at = (*place, n)
            if is_over:
                value = self._cancel(child, at)
                continue
            value = self._follow(child, value if child.input == Input.PREVIOUS else given, at)
            is_over = not child.container and self._is_given_up(child)
        return [value, *self.added_to(place)][-1]

    def _is_given_up(self, spec: NodeSpec) -> bool:
        return self.statuses[spec.kwargs["label"]] == ("complete", "shutdown")

    def _play(self, spec: NodeSpec, given: Any, place: Place) -> Any:
        label, fate = spec.kwargs["label"], self.fate_of(spec, place)
        takes = spec.input != Input.NONE
        if takes and given is LOST:
            return self._cancel(spec, place)
        args = [*([given] if takes else []), *spec.args]
        if spec.kwargs["failures"] != UNWANTED:
            self.given[label] = args
        if fate == "cancel":
            return self._cancel(spec, place)
        if fate == "resolve":
            self.statuses[label] = ("complete", "resolved")
            return self.resolved(spec, place)
        if fate:
            self.statuses[label] = ("complete", fate)
            return LOST
        self.statuses[label] = ("complete", "succeeded")
        if shape := spec.kwargs["shape"]:
            spec = task_spec(self.signature_of(shape), is_replacement=True)
            return self._follow(spec, None, (*place, 0))
        return [label, *args]

    def _cancel(self, spec: NodeSpec, place: Place) -> Any:
        self.specs[place], self.values[place] = spec, LOST
        if not spec.container:
            self.statuses[spec.kwargs["label"]] = ("canceled", "")
        for n, child in enumerate(spec.children):
            self._cancel(child, (*place, n))
        return LOST

"""What must become of a canvas in which operators had a hand, and whether it has.

What operators did is read off the rows: whom they canceled, resolved or shut down. All else
follows from that by the plan, and the rows must say the same. Nothing here asks the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from backbeat_celery.inputs.node_spec import NodeSpec
from tests.integration.canvas.plan import LOST, Place, Plan
from tests.stateful.invariants import FINISHED, Rows

Row = Any
FROM_ABOVE = ("a node above was canceled", "its workflow was canceled")
OF_A_LOSS = (" was canceled", " before it was shut down", " gives no value")
"""How the reasons end for which the engine itself cancels what needs a value."""


def counting(rows: Rows, node: Row) -> list[Row]:
    """The children of a node that it waits for, in order."""
    return [child for child in rows.children[node.id] if child.mode != "fire_and_forget"]


def everything_below(rows: Rows, node: Row) -> Iterator[Row]:
    """A node and all below it."""
    yield node
    for child in rows.children[node.id]:
        yield from everything_below(rows, child)


def is_at_rest(rows: Rows, top: Row) -> bool:
    """Whether nothing of a canvas is going to change any more."""
    return all(node.status in FINISHED for node in everything_below(rows, top))


def was_canceled_by_somebody(rows: Rows, node: Row) -> bool:
    """Whether a node was canceled by a verb, itself or with what is above, and not for a loss."""
    steps = rows.history[node.id]
    if node.status != "canceled" or not steps:
        return False
    reason = steps[-1].reason
    if reason == FROM_ABOVE[0]:
        return bool(rows.nodes[node.parent_id].status == "canceled")
    return reason in FROM_ABOVE or not reason.endswith(OF_A_LOSS)


class SteeredPlan(Plan):
    """The plan of a canvas, given what operators did."""

    def __init__(
        self,
        rows: Rows,
        top: Row,
        signature_of: Callable[[Any], Any],
        resolved: Callable[[str], Any],
    ) -> None:
        super().__init__(signature_of)
        self._rows, self._top = rows, top
        self._resolved = resolved
        """The result that operators resolve a task with, by its label."""

    def row_at(self, place: Place) -> Row | None:
        """The row of a node of the canvas."""
        row = self._top
        for number in place:
            line = counting(self._rows, row)
            if number >= len(line):
                return None
            row = line[number]
        return row

    def fate_of(self, spec: NodeSpec, place: Place) -> str:
        """What operators did with it."""
        row = self.row_at(place)
        if row is None:
            return ""
        if was_canceled_by_somebody(self._rows, row):
            return "cancel"
        return {"resolved": "resolve", "shutdown": "shutdown"}.get(row.outcome, "")

    def resolved(self, spec: NodeSpec, place: Place) -> Any:
        """The result that operators gave it."""
        return self._resolved(spec.kwargs["label"])

    def added_to(self, place: Place) -> list[Any]:
        """The values of children that operators added to a container."""
        row = self.row_at(place)
        if row is None:
            return []
        made = len(self.specs[place].children)
        return [self._value_of(child) for child in counting(self._rows, row)[made:]]

    def _value_of(self, child: Row) -> Any:
        label = child.metadata.get("label", "")
        values = {"succeeded": label, "resolved": self._resolved(label)}
        return values.get(child.outcome, LOST) if child.status == "complete" else LOST

    # Compared -------------------------------------------------------------------------------

    def missing(self) -> Iterator[str]:
        """Nodes that must be there, and are not or are something else."""
        for place, spec in self.specs.items():
            row = self.row_at(place)
            if row is None:
                yield f"{_told(spec, place)} is not there"
            elif (row.container, row.task) != (spec.container, spec.task):
                yield f"{_told(spec, place)} is {row.container or row.task}"
            elif not spec.container and row.kwargs != spec.kwargs:
                yield f"{_told(spec, place)} is {row.kwargs}"

    def otherwise(self, values: dict[Any, Any]) -> Iterator[tuple[Row, str]]:
        """Rows whose status, outcome or value is not as the plan says, and what is wrong.

        `values` are what the rows' nodes give, by their ids.
        """
        for place, spec in self.specs.items():
            row = self.row_at(place)
            if row is None:
                continue
            told = _told(spec, place)
            if not spec.container:
                expected = self.statuses[spec.kwargs["label"]]
                if (row.status, row.outcome) != expected:
                    yield row, f"{told} is {row.status} {row.outcome}, not {expected}"
            elif row.status == "canceled" and self.values[place] is not LOST:
                yield row, f"{told} is canceled, and nobody did it"
            value, planned = values.get(row.id, LOST), self.values[place]
            if not _is_same(value, planned):
                yield row, f"{told} has the value {_shown(value)} and not {_shown(planned)}"


def _is_same(value: Any, planned: Any) -> bool:
    return value is planned if LOST in (value, planned) else bool(value == planned)


def _shown(value: Any) -> str:
    return "none" if value is LOST else repr(value)


def _told(spec: NodeSpec, place: Place) -> str:
    what = spec.container or spec.kwargs["label"]
    return f"{what} at {'.'.join(map(str, place)) or 'the top'}"

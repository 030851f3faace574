"""The evidence of a run: its rows, its handlers' log, and what was expected of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from celery.states import SUCCESS

from backbeat_celery import NodeResult
from backbeat_celery.exceptions import NotFinished, NoValue
from backbeat_celery.models import Node
from tests.chaos.canvases import is_in_canvas, is_linked, whole_of
from tests.chaos.outsiders import TASK, Report
from tests.chaos.shapes import Shape
from tests.chaos.watch import Line, plain
from tests.stateful.invariants import Rows

Pause = tuple[str, float, float]
"""A workflow, and from when until when it was surely paused."""


class Values(NamedTuple):
    """What code that asks for values is told, by the ids of nodes."""

    given: dict[UUID, Any]
    """By `get_result()`; nothing of a node that has no value."""
    shown: dict[UUID, tuple[str, Any]]
    """The state and the value that `NodeResult` has."""


NO_VALUES = Values({}, {})


class Evidence:
    """Rows, log and expectations, put side by side."""

    def __init__(
        self,
        rows: Rows,
        lines: list[Line],
        labels: Set[str],
        effects: Counter[str],
        pauses: Iterable[Pause] = (),
        reports: Iterable[Report] = (),
        closed: Set[str] = frozenset(),
        crashes: Iterable[tuple[float, float]] = (),
        canvases: Mapping[str, Shape] = MappingProxyType({}),
        values: Values = NO_VALUES,
    ) -> None:
        self.rows = rows
        self.pauses = list(pauses)
        self.labels = labels
        self.canvases = canvases
        """The shapes with canvases, by the labels of their outermost nodes."""
        self.values = values
        """What the nodes of canvases give."""
        self.effects = effects
        """How many rows each atomic node has written."""
        self.crashes = list(crashes)
        """From when until when the database had crashed."""
        self.closed = closed
        """Workflows whose closing was answered."""
        self.reports: dict[tuple[str, int], list[Report]] = defaultdict(list)
        for report in reports:
            self.reports[report.node, report.attempt].append(report)
        self.starts: dict[tuple[str, int], list[Line]] = defaultdict(list)
        self.ends: dict[tuple[str, int], list[Line]] = defaultdict(list)
        self.foreign = [line for line in lines if line.event == "foreign"]
        """Calls by a worker that has the tasks and not the package."""
        for line in lines:
            by_event = {"start": self.starts, "end": self.ends}.get(line.event)
            if by_event is not None:
                by_event[line.node, line.attempt].append(line)

    def handlers(self) -> Iterator[Any]:
        """Nodes that call a handler of ours and have a shape."""
        return (node for node in self.runs() if not node.rescue and not is_in_canvas(node))

    def shape_of(self, node: Any) -> Shape:
        """The shape that a node was made of; for what is in a canvas, that of the whole."""
        if is_in_canvas(node):
            return self.canvases[whole_of(node)]
        shape: Shape = node.args[0]
        return shape

    def may_fail(self) -> Iterator[Any]:
        """Nodes whose failures are planned."""
        yield from self.handlers()
        yield from (node for node in self.runs() if is_in_canvas(node) and not is_linked(node))

    def runs(self) -> Iterator[Any]:
        """Nodes that call any handler of ours."""
        return (node for node in self.rows.nodes.values() if node.task.startswith("chaos."))

    def may_be_forgotten(self, one: Line, two: Line) -> bool:
        """Whether a crash of the database between two starts may have forgotten the first claim.

        The commit of a claim does not wait for PostgreSQL's disk.
        """
        return any(one.at <= ended and begun <= two.at for begun, ended in self.crashes)

    def awaiting(self) -> Iterator[Any]:
        """Nodes whose outcome comes from outside."""
        return (node for node in self.rows.nodes.values() if node.task == TASK)

    def said_of(self, node: Any, verb: str) -> list[Report]:
        """The reports of one kind that were taken, or may have been."""
        numbers = range(1, node.attempt + 1)
        found = [r for n in numbers for r in self.reports.get((plain(node.id), n), [])]
        return [report for report in found if report.verb == verb and report.may_count]

    def reported_at(self, node: Any) -> list[float]:
        """When the report that completed a node was made, at the earliest."""
        accepted = {attempt.number for attempt in self.accepted(node)}
        return [r.begun for r in self.said_of(node, "complete") if r.attempt in accepted][:1]

    def failures_reported(self, node: Any) -> int:
        """How many attempts failed, or may have, because somebody said so."""
        return len({report.attempt for report in self.said_of(node, "fail")})

    def accepted(self, node: Any) -> list[Any]:
        """The attempts of a node that were accepted."""
        return [a for a in self.rows.attempts[node.id] if a.outcome == "succeeded"]


def read_values(rows: Rows) -> Values:
    """Ask for the values of all nodes of canvases, as any code of a project would."""
    values = Values({}, {})
    for row in rows.nodes.values():
        if not (is_in_canvas(row) or row.container):
            continue
        with suppress(NotFinished, NoValue):
            values.given[row.id] = Node.objects.get(pk=row.id).get_result()
        result = NodeResult(row.id)
        state = result.state
        values.shown[row.id] = state, result.get(timeout=0) if state == SUCCESS else None
    return values

"""The invariants of the package as checks over plain rows, written without its engine.

`broken_now()` holds at every moment; `broken_at_rest()` when every timer has fired and the
sweeper has found nothing more. Both give sentences, one for each fault: assert that there
are none. Rows are read in several statements, so nothing may change meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from django.db.models import Max, Model

from backbeat_celery.models import Attempt, Link, Node, Transition, Workflow

FINISHED = {"complete", "canceled"}
HAD_NO_TURN = {"pending", "ready"}
ACCEPTED = {"waiting", "complete"}
ALLOWED = {
    "pending": "ready queued paused complete canceled",
    "ready": "queued paused complete canceled",
    "queued": "running paused complete failed canceled",
    "running": "waiting complete retrying failed queued canceled",
    "retrying": "running queued paused canceled",
    "paused": "queued canceled",
    "waiting": "complete canceled",
    "failed": "queued paused waiting complete canceled",
    "complete": "",
    "canceled": "",
}
FIRST = {"pending", "ready", "queued", "paused"}
Row = Any
Faults = Iterator[str]


class Rows:
    """Everything there is, read once."""

    def __init__(self, using: str = "default") -> None:
        self.workflows = {row.id: row for row in _read(Workflow, using)}
        self.nodes = {row.id: row for row in _read(Node, using)}
        self.history = _grouped(_read(Transition, using), "node_id")
        self.attempts = _grouped(_read(Attempt, using), "node_id")
        self.links = _grouped(_read(Link, using), "source_id")
        self.children = _grouped(self.nodes.values(), "parent_id")
        for line in self.children.values():
            line.sort(key=lambda row: row.seq)

    def families(self) -> Iterator[tuple[Row, list[Row]]]:
        """Each node that has children, with its children in order."""
        for parent_id, line in self.children.items():
            if parent_id is not None:
                yield self.nodes[parent_id], line

    def open_edges(self, node: Row) -> list[Row]:
        """What a node still waits for: children that count, and links."""
        edges = [c for c in self.children[node.id] if c.mode != "fire_and_forget"]
        edges += [self.nodes[link.target_id] for link in self.links[node.id]]
        return [edge for edge in edges if edge.status not in FINISHED]

    def is_later(self, node: Row, other: Row) -> bool:
        """Whether `node` changed after the last change of `other`: rows are numbered in order."""
        mine, theirs = self.history[node.id], self.history[other.id]
        return bool(mine and theirs and mine[-1].id > theirs[-1].id)


def broken_now(using: str = "default") -> list[str]:
    """Every fault that is one at any moment."""
    rows = Rows(using)
    return [fault for check in SAFETY for fault in check(rows)]


def broken_at_rest(using: str = "default") -> list[str]:
    """Every fault that is one when nothing more is going to happen by itself."""
    rows = Rows(using)
    return [fault for check in (*SAFETY, *LIVENESS) for fault in check(rows)]


def last_change(using: str = "default") -> int:
    """A number that grows with every change of a status."""
    latest: int | None = Transition.objects.using(using).aggregate(last=Max("pk"))["last"]
    return latest or 0


def _is_allowed(node: Row, before: str, after: str) -> bool:
    is_opening = bool(node.container) and before in FIRST and after == "waiting"
    return is_opening or after in ALLOWED[before].split()


def histories_are_paths(rows: Rows) -> Faults:
    """Invariant 1."""
    for node in rows.nodes.values():
        steps = rows.history[node.id]
        path = [steps[0].from_status, *(step.to_status for step in steps)] if steps else []
        if node.status == "running":
            # This step is written with the next one.
            path = [*(path or ["queued"]), "running"]
        path = path or [node.status]
        if path[-1] != node.status:
            yield f"{_name(node)} ends its history {path} elsewhere"
        first = FIRST | {"waiting"} if node.container else FIRST
        if path[0] not in ({"waiting"} if node.parent_id is None else first):
            yield f"{_name(node)} began as {path[0]}"
        if any(not _is_allowed(node, before, after) for before, after in _pairs(path)):
            yield f"{_name(node)} took a step that is not allowed: {path}"
        if any(one.to_status != two.from_status for one, two in _pairs(steps)):
            yield f"{_name(node)} has a gap in its history"
        if any(one.at > two.at or one.attempt > two.attempt for one, two in _pairs(steps)):
            yield f"{_name(node)} has a history that goes back in time or attempts"


def one_attempt_is_accepted(rows: Rows) -> Faults:
    """Invariant 2."""
    for node in rows.nodes.values():
        attempts = rows.attempts[node.id]
        accepted = [a.number for a in attempts if a.outcome == "succeeded"]
        if len(accepted) > 1 or (accepted and accepted != [node.attempt]):
            yield f"{_name(node)} accepted attempts {accepted} of {node.attempt}"
        if any(a.number > node.attempt for a in attempts):
            yield f"{_name(node)} ended an attempt that it has not begun"
        ends = [s for s in rows.history[node.id] if s.from_status == "running"]
        if sorted(s.attempt for s in ends) != sorted(a.number for a in attempts):
            yield f"{_name(node)} has a step out of running without its attempt, or vice versa"
        if len([s for s in ends if s.to_status in ACCEPTED]) > 1:
            yield f"{_name(node)} was accepted twice"
        if (node.claim_id is not None) != (node.status == "running"):
            yield f"{_name(node)} is {node.status} with claim {node.claim_id}"


def turns_come_in_order(rows: Rows) -> Faults:
    """Invariant 3, and the barrier of rule 4.6."""
    for _, line in rows.families():
        for position, node in enumerate(line):
            if node.status in HAD_NO_TURN or node.status == "canceled":
                continue
            for other in line[:position]:
                waits = other.mode == "blocking" or (node.barrier and other.mode != _FORGET)
                if waits and other.status not in FINISHED:
                    yield f"{_name(node)} did not wait for {_name(other)}"
                elif waits and node.started_at and other.finished_at > node.started_at:
                    yield f"{_name(node)} started before {_name(other)} was finished"


def places_are_fixed(rows: Rows) -> Faults:
    """The definition of a stage, and the counters that the next child gets its place from.

    A purge takes old signals out of a root's line: whoever stands behind a gap may have a
    higher stage than its siblings show, by at most two for each place that is gone.
    """
    for parent, line in rows.families():
        stage, seq, is_root = 0, -1, parent.parent_id is None
        for node in line:
            stage += node.barrier
            room = 2 * (node.seq - seq - 1) if is_root else 0
            if not stage <= node.stage <= stage + room:
                yield f"{_name(node)} has stage {node.stage}, its siblings say {stage}"
            seq, stage = node.seq, node.stage + (node.mode == "blocking")
        room = 2 * (parent.next_seq - seq - 1) if is_root else 0
        if parent.next_seq <= seq or not stage <= parent.next_stage <= stage + room:
            yield f"{_name(parent)} would give its next child a place that is taken"


def complete_nodes_wait_for_nothing(rows: Rows) -> Faults:
    """Invariant 4, first half."""
    for node in rows.nodes.values():
        if node.status == "complete" and (edges := rows.open_edges(node)):
            yield f"{_name(node)} is complete, but not {_name(edges[0])}"
        for child in rows.children[node.id]:
            if node.status == "complete" and child.mode != _FORGET and rows.is_later(child, node):
                yield f"{_name(node)} was complete before {_name(child)}"
        if (node.finished_at is not None) != (node.status in FINISHED):
            yield f"{_name(node)} is {node.status} with finished_at {node.finished_at}"
        awaited_by = None if node.status in FINISHED or node.mode == _FORGET else node.parent_id
        if node.awaited_by != awaited_by:
            yield f"{_name(node)} is awaited by {node.awaited_by}, not {awaited_by}"
        is_settled = node.status == "waiting" and node.outcome in {"resolved", "shutdown"}
        has_outcome = node.status == "complete" or is_settled
        if (node.outcome != "") != has_outcome:
            yield f"{_name(node)} is {node.status} with outcome {node.outcome!r}"


def somebody_will_look(rows: Rows) -> Faults:
    """Invariant 5, as far as it shows in a single row: the sweeper can find what is due."""
    for node in rows.nodes.values():
        if node.status in {"queued", "retrying"} and node.publish_at is None:
            yield f"{_name(node)} has no time for its next message"
        if node.status == "running" and node.lease_expires_at is None and not node.times_out_at:
            yield f"{_name(node)} runs for ever"


def children_are_recorded_with_their_attempt(rows: Rows) -> Faults:
    """Invariant 6, and rule 4.1."""
    for parent, line in rows.families():
        spawner = parent
        while spawner.container:  # what is in a container was spawned with it
            spawner = rows.nodes[spawner.parent_id]
        accepted = {a.number for a in rows.attempts[spawner.id] if a.outcome == "succeeded"}
        for node in line:
            if node.status == "canceled" or node.mode == _FORGET:
                continue
            if node.spawned_by is not None and node.spawned_by not in accepted:
                yield f"{_name(node)} was left behind by attempt {node.spawned_by}"
            is_held = parent.status not in {*ACCEPTED, "canceled"}
            if (node.status == "pending") != is_held and parent.status != "canceled":
                yield f"{_name(node)} does not fit {_name(parent)}"


def canceled_nodes_do_not_start(rows: Rows) -> Faults:
    """Invariant 8."""
    for node in rows.nodes.values():
        starts = [a.started_at for a in rows.attempts[node.id]] + [node.started_at]
        if node.status == "canceled" and any(s and s > node.finished_at for s in starts):
            yield f"{_name(node)} started after it was canceled"


def one_run_is_unfinished(rows: Rows) -> Faults:
    """A root is finished when its run is; runs are numbered from 1."""
    runs = defaultdict(list)
    for workflow in rows.workflows.values():
        runs[workflow.name, workflow.subject].append(workflow)
        root = rows.nodes[workflow.id]
        if (root.status in FINISHED) != (workflow.unfinished is None):
            yield f"{workflow.name} has a root that is {root.status}"
    for group in runs.values():
        if sorted(w.run for w in group) != list(range(1, len(group) + 1)):
            yield f"{group[0].name} has runs {[w.run for w in group]}"
        if len([w for w in group if w.unfinished]) > 1:
            yield f"{group[0].name} has two unfinished runs"


def nothing_is_stuck(rows: Rows) -> Faults:
    """Invariants 4, second half, and 5."""
    for node in rows.nodes.values():
        if not _has_excuse(node, rows):
            yield f"{_name(node)} is stuck"


def _has_excuse(node: Row, rows: Rows) -> bool:
    workflow = rows.workflows[node.workflow_id]
    match node.status:
        case "pending":
            return rows.nodes[node.parent_id].status not in ACCEPTED
        case "ready":
            return _is_held(node, rows.children[node.parent_id])
        case "waiting":
            is_open_root = node.parent_id is None and workflow.closed_at is None
            return is_open_root or bool(rows.open_edges(node))
        case "paused":
            return workflow.paused_at is not None
    return node.status in {"failed", *FINISHED}


def nothing_is_open_below_canceled(rows: Rows) -> Faults:
    """Invariant 7."""
    for parent, line in rows.families():
        for node in line:
            if parent.status == "canceled" and node.status not in FINISHED:
                yield f"{_name(node)} goes on below {_name(parent)}"


SAFETY = (
    histories_are_paths,
    one_attempt_is_accepted,
    turns_come_in_order,
    places_are_fixed,
    complete_nodes_wait_for_nothing,
    somebody_will_look,
    children_are_recorded_with_their_attempt,
    canceled_nodes_do_not_start,
    one_run_is_unfinished,
)
LIVENESS = (nothing_is_stuck, nothing_is_open_below_canceled)
_FORGET = "fire_and_forget"


def _is_held(node: Row, line: list[Row]) -> bool:
    earlier = [n for n in line if n.seq < node.seq and n.status not in FINISHED]
    return any(n.mode == "blocking" or (node.barrier and n.mode != _FORGET) for n in earlier)


def _read(model: type[Model], using: str) -> list[Row]:
    values = model._base_manager.using(using).order_by("pk").values()
    return [SimpleNamespace(**row) for row in values]


def _grouped(rows: Any, by: str) -> defaultdict[Any, list[Row]]:
    groups: defaultdict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[getattr(row, by)].append(row)
    return groups


def _pairs(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    return pairwise(items)


def _name(node: Row) -> str:
    label = node.metadata.get("label", node.name)
    return f"{label} ({node.status}, {node.mode}{', barrier' if node.barrier else ''})"

"""The auditor: what must be true of the rows and of the handlers' log after a run.

It shares nothing with the engine but the tables: the invariants of `tests/stateful` are checks
over plain rows, and those here compare rows with what the handlers themselves wrote down.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

from tests.chaos import audit_canvases, audit_outside
from tests.chaos.canvases import is_in_canvas, is_linked, label_of
from tests.chaos.evidence import Evidence
from tests.chaos.outsiders import TASK
from tests.chaos.verdict import Found, Kind, Violation
from tests.chaos.verdict import name_of as _name
from tests.chaos.watch import plain
from tests.stateful import invariants
from tests.stateful.invariants import FINISHED, Rows

FLAG = ""
GHOST = "ghost"
WITHIN = ('hit("in_handler")', 'hit("after_handler")')
"""Points at which an error of the harness's is one of the handler's own."""
READ_ONLY = "read-only"
OF_LINKS = ("OperationalError", "InternalError", "WorkflowClosed")
SETTLED = {*FINISHED, "failed"}


def audit(evidence: Evidence) -> list[Violation]:
    """Everything that is wrong."""
    found = [violation for check in CHECKS for violation in check(evidence)]
    seen = set()
    return [v for v in found if v not in seen and not seen.add(v)]  # type: ignore[func-returns-value]


def the_contract(evidence: Evidence) -> Found:
    """The invariants that hold of rows alone."""
    for check in (*invariants.SAFETY, *invariants.LIVENESS):
        kind: Kind = "stuck" if check in invariants.LIVENESS else "broken"
        for text in check(evidence.rows):
            yield Violation(kind, "", text)


def nothing_is_lost(evidence: Evidence) -> Found:
    """Each node that was sent or spawned is there, once, and came to an end."""
    by_label = defaultdict(list)
    for node in evidence.rows.nodes.values():
        is_sent = node.parent_id is not None and not node.rescue and not is_linked(node)
        # Of the containers in a canvas only the outermost has a label.
        is_known = label_of(node) is not None or not node.container
        if is_sent and is_known and node.status != "canceled":
            by_label[label_of(node)].append(node)
        if node.status not in SETTLED and not _is_excused(node, evidence.rows):
            yield Violation("stuck", plain(node.id), f"{_name(node)} did not come to an end")
    cut = _cut_off(evidence.rows) | _cut_short(evidence)
    for label in evidence.labels - by_label.keys():
        if not any(above in cut for above in _line_above(label)):
            yield Violation("lost", "", f"{label} is not there")
    for label, nodes in by_label.items():
        if len(nodes) > 1 and not _in_one_run_after_another(nodes, evidence.rows):
            yield Violation("doubled", plain(nodes[0].id), f"{label} is there {len(nodes)} times")
        if label == GHOST:
            yield Violation("broken", plain(nodes[0].id), "A failed attempt has left a child")


def accepted_attempts_ran(evidence: Evidence) -> Found:
    """Each attempt that was accepted has begun and ended by its handler's own words.

    One that was reported from outside need not have come to its end, nor have begun if it was
    given up after the report.
    """
    short = _cut_short(evidence)
    for node in evidence.runs():
        is_reported = node.task == TASK
        is_cut = is_reported and node.metadata.get("label") in short
        for attempt in evidence.accepted(node):
            at = (plain(node.id), attempt.number)
            has_begun = bool(evidence.starts[at]) or is_cut
            if not has_begun or not (evidence.ends[at] or is_reported):
                yield Violation("broken", at[0], f"{_name(node)} {at[1]} was accepted, not run")


def attempts_run_once(evidence: Evidence) -> Found:
    """One claim, one call of the handler; a claim that a crash forgot is made again."""
    for (node, attempt), lines in evidence.starts.items():
        if any(not evidence.may_be_forgotten(*two) for two in pairwise(lines)):
            yield Violation("doubled", node, f"attempt {attempt} was started {len(lines)} times")


def starts_were_claimed(evidence: Evidence) -> Found:
    """No handler ran without a claim."""
    nodes = {plain(node.id): node for node in evidence.rows.nodes.values()}
    for node, attempt in evidence.starts:
        if node not in nodes or attempt > nodes[node].attempt:
            yield Violation("broken", node, f"attempt {attempt} ran, and nobody claimed it")


def handlers_run_in_their_context(evidence: Evidence) -> Found:
    """Each attempt sees the headers that its node was created with, and no others.

    A rescue has those of the node that it is called for, and in a canvas all have the same.
    """
    nodes = {plain(node.id): node for node in evidence.runs()}
    for (name, attempt), lines in evidence.starts.items():
        node = nodes.get(name)
        if node is not None and node.rescue and not is_in_canvas(node):
            node = nodes.get(plain(node.parent_id))
        if node is None:
            continue
        shape = evidence.shape_of(node)
        names_one = shape.get("context") and not is_in_canvas(node)
        expected = shape["label"] if names_one else None, shape.get("ambient")
        for line in lines:
            if (line.context, line.ambient) != expected:
                seen = f"{line.context!r} and {line.ambient!r} instead of {expected}"
                yield Violation("broken", name, f"attempt {attempt} ran in the context {seen}")


def only_workers_with_the_package_run_handlers(evidence: Evidence) -> Found:
    """A worker without it calls none: it would call them without arguments."""
    for line in evidence.foreign:
        yield Violation("broken", line.node, "A worker without the package called a handler")


def attempts_are_numbered(evidence: Evidence) -> Found:
    """Every claim has left its row, but for one that runs."""
    for node in evidence.runs():
        numbers = [a.number for a in evidence.rows.attempts[node.id]]
        last = node.attempt - (node.status == "running")
        if numbers != list(range(1, last + 1)):
            yield Violation("broken", plain(node.id), f"{_name(node)} has attempts {numbers}")


def joins_happen_once(evidence: Evidence) -> Found:
    """A node is completed once."""
    for node_id, steps in evidence.rows.history.items():
        ends = [step for step in steps if step.to_status == "complete"]
        if len(ends) > 1:
            yield Violation("doubled", plain(node_id), f"completed {len(ends)} times")


def effects_happen_once(evidence: Evidence) -> Found:
    """An atomic node that succeeded has written one row, any other none."""
    for node in evidence.handlers():
        if node.task != "chaos.atomic":
            continue
        expected = len(evidence.accepted(node))
        effects = evidence.effects[plain(node.id)]
        if effects != expected:
            kind: Kind = "doubled" if effects > expected else "lost"
            yield Violation(kind, plain(node.id), f"{_name(node)} has {effects} effects")


def results_are_right(evidence: Evidence) -> Found:
    """A node that succeeded has the result that its handler gave."""
    for node in evidence.handlers():
        if node.outcome == "succeeded" and node.result != node.metadata["label"]:
            yield Violation("broken", plain(node.id), f"{_name(node)} has result {node.result!r}")


def what_waits_starts_later(evidence: Evidence) -> Found:
    """What is behind a blocking node starts after the last accepted handler of its subtree."""
    spans = _Spans(evidence)
    for _, line in evidence.rows.families():
        ended = counted = 0.0
        for node in line:
            first, last = spans.of(node)
            waits_for = counted if node.barrier else ended
            if first is not None and first < waits_for:
                yield Violation(
                    "doubled", plain(node.id), f"{_name(node)} overlaps what it waits for"
                )
            if node.mode == "blocking":
                ended = max(ended, last)
            if node.mode != "fire_and_forget":
                counted = max(counted, last)


def nothing_starts_early(evidence: Evidence) -> Found:
    """A node with a delay starts after it, by the database's clock."""
    for node in evidence.handlers():
        attempts = evidence.rows.attempts[node.id]
        delay = node.args[0].get("delay") if node.args else None
        if delay and attempts and attempts[0].started_at:
            due = node.created_at + timedelta(seconds=delay)
            if attempts[0].started_at < due:
                yield Violation("broken", plain(node.id), f"{_name(node)} started early")


def attempts_come_one_after_another(evidence: Evidence) -> Found:
    """No attempt begins before the one before it has ended, by the database's clock."""
    for node in evidence.runs():
        for one, two in pairwise(evidence.rows.attempts[node.id]):
            if one.finished_at and two.started_at and two.started_at < one.finished_at:
                text = f"{_name(node)}: attempt {two.number} began before {one.number} ended"
                yield Violation("doubled", plain(node.id), text)


def failures_are_within_budget(evidence: Evidence) -> Found:
    """A node fails as often as its shape says, and timeouts."""
    short = _cut_short(evidence)
    for node in evidence.may_fail():
        failed = [a for a in evidence.rows.attempts[node.id] if a.outcome == "failed"]
        allowed = _failures_planned(node)
        # A handler that was killed after its report has not come to what fails.
        needed = 0 if node.metadata.get("label") in short else allowed - _timeouts(node, evidence)
        if node.outcome == "succeeded" and len(failed) < needed:
            yield Violation("broken", plain(node.id), f"{_name(node)} failed {len(failed)} times")
        failed = [a for a in failed if not any(point in (a.traceback or "") for point in WITHIN)]
        if not is_in_canvas(node) and node.args and "link" in node.args[0]:
            # Its handler signals, and so hears of a database that is away, or of a closed run.
            failed = [a for a in failed if not any(word in a.error for word in OF_LINKS)]
        if node.task == "chaos.atomic":
            # Its handler writes, and so hears of a database that takes no writes.
            failed = [a for a in failed if READ_ONLY not in a.error]
        allowed += evidence.failures_reported(node)
        if node.outcome == "succeeded" and len(failed) > allowed:
            errors = {a.error for a in failed}
            yield Violation("broken", plain(node.id), f"{_name(node)} failed otherwise: {errors}")


def nothing_starts_in_a_pause(evidence: Evidence) -> Found:
    """No attempt begins between the commit of a pause and the call of its end."""
    attempts = defaultdict(list)
    for node in evidence.runs():
        attempts[plain(node.workflow_id)] += evidence.rows.attempts[node.id]
    for workflow, begun, ended in evidence.pauses:
        for attempt in attempts[workflow]:
            if attempt.started_at and begun < attempt.started_at.timestamp() < ended:
                text = f"attempt {attempt.number} began during a pause"
                yield Violation("broken", plain(attempt.node_id), text)


def nothing_is_held(evidence: Evidence) -> Found:
    """At the end nobody holds a lease."""
    for node in evidence.rows.nodes.values():
        if node.status == "running":
            yield Violation("stuck", plain(node.id), f"{_name(node)} runs after the end")
        elif node.lease_expires_at or node.claim_id:
            yield Violation(
                "broken", plain(node.id), f"{_name(node)} has a lease and does not run"
            )


CHECKS = (
    the_contract,
    nothing_is_lost,
    accepted_attempts_ran,
    attempts_run_once,
    starts_were_claimed,
    handlers_run_in_their_context,
    only_workers_with_the_package_run_handlers,
    attempts_are_numbered,
    joins_happen_once,
    effects_happen_once,
    results_are_right,
    what_waits_starts_later,
    nothing_starts_early,
    attempts_come_one_after_another,
    failures_are_within_budget,
    nothing_starts_in_a_pause,
    nothing_is_held,
    *audit_outside.CHECKS,
    *audit_canvases.CHECKS,
)


class _Spans:
    """When the handlers of subtrees ran, by the log."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self._known: dict[Any, tuple[float | None, float]] = {}

    def of(self, node: Any) -> tuple[float | None, float]:
        """First start of any attempt, last end of an accepted one: of all that counts below."""
        if node.id in self._known:
            return self._known[node.id]
        name, evidence = plain(node.id), self.evidence
        starts = [
            line.at
            for number in range(1, node.attempt + 1)
            for line in evidence.starts.get((name, number), [])
        ]
        ends = [
            line.at
            for attempt in evidence.accepted(node)
            for line in evidence.ends.get((name, attempt.number), [])
        ]
        ends += evidence.reported_at(node)
        for child in evidence.rows.children.get(node.id, []):
            first, last = self.of(child)
            # An error callback of a chord is below the body, and is not held with it.
            starts += [] if first is None or child.rescue else [first]
            ends += [last] if child.mode != "fire_and_forget" else []
        self._known[node.id] = min(starts, default=None), max(ends, default=0.0)
        return self._known[node.id]


def _failures_planned(node: Any) -> int:
    if is_in_canvas(node):
        return int(node.kwargs["failures"])
    return int(node.args[0]["fails"]) if node.args else 0


def _timeouts(node: Any, evidence: Evidence) -> int:
    return len([a for a in evidence.rows.attempts[node.id] if a.outcome == "timed_out"])


def _in_one_run_after_another(nodes: list[Any], rows: Rows) -> bool:
    """Tell whether a repeated signal met another run: a key counts in the run that it came to."""
    nodes = sorted(nodes, key=lambda node: node.created_at)
    closed = [rows.workflows[node.workflow_id].closed_at for node in nodes]
    return all(
        node.key and end is not None and end <= later.created_at
        for node, end, later in zip(nodes, closed, nodes[1:], strict=False)
    )


def _is_excused(node: Any, rows: Rows) -> bool:
    """An open root waits for signals for ever; what waits for a failed node does, too."""
    if node.parent_id is None:
        return True
    return any(
        other.status == "failed"
        for other in rows.nodes.values()
        if other.workflow_id == node.workflow_id
    )


def _cut_off(rows: Rows) -> set[str]:
    """Labels of nodes that an operator has ended: what is below them may be missing."""
    return {
        label_of(node)
        for node in rows.nodes.values()
        if node.status == "canceled" or node.outcome in {"resolved", "shutdown"}
    }


def _cut_short(evidence: Evidence) -> set[str]:
    """Labels of nodes whose report counted although their handler's end was never recorded.

    What it would have spawned or signalled may be missing.
    """
    return {
        node.metadata.get("label")
        for node in evidence.awaiting()
        for step in evidence.rows.history[node.id]
        if "reported before the attempt was" in step.reason
    }


def _line_above(label: str) -> Iterator[str]:
    """A label and those of the nodes above it, which it begins with."""
    while label:
        yield label
        label = label.rpartition(".")[0]

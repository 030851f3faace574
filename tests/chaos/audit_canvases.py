"""What must be true of canvases: each value, what each handler got, and how often callbacks came.

What a canvas gives is computed from its shape, before and without any run. Where operators had
a hand in it, what they did is read off the rows, and all else is computed from that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from celery import states

from backbeat_celery.inputs.callbacks import callbacks_of
from backbeat_celery.states import Input
from tests.chaos.canvases import TASKS, signature_of
from tests.chaos.evidence import Evidence
from tests.chaos.operators import BY_HAND
from tests.chaos.verdict import Found, Violation
from tests.chaos.verdict import name_of as _name
from tests.chaos.watch import plain
from tests.integration.canvas.plan import LOST
from tests.stateful.invariants import Rows
from tests.stateful.steered_plan import (
    SteeredPlan,
    counting,
    everything_below,
    is_at_rest,
)

Followed = tuple[Any, SteeredPlan]
"""The outermost row of a canvas, and its plan."""


def canvases_are_whole(evidence: Evidence) -> Found:
    """Each node that a canvas is made of is there, at its place."""
    for top, plan in _followed(evidence):
        for text in plan.missing():
            yield Violation("lost", plain(top.id), f"{_name(top)}: {text}")
        for place, spec in plan.specs.items():
            row = plan.row_at(place)
            if row is None or not spec.container:
                continue
            for other in counting(evidence.rows, row)[len(spec.children) :]:
                if other.container or "label" not in other.metadata:
                    yield Violation("doubled", plain(other.id), f"{_name(other)} is there again")


def canvases_give_what_was_computed(evidence: Evidence) -> Found:
    """Each node ended as planned and gives that value to whoever asks, or none if it has none."""
    for top, plan in _followed(evidence):
        for row, text in plan.otherwise(evidence.values.given):
            yield Violation("broken", plain(row.id), f"{_name(top)}: {text}")
        state, value = evidence.values.shown.get(top.id, ("", None))
        planned = plan.values[()]
        expected = (states.REVOKED, None) if planned is LOST else (states.SUCCESS, planned)
        if (state, value) != expected:
            text = f"NodeResult of {_name(top)} is {state} with {value!r}"
            yield Violation("broken", plain(top.id), text)


def steps_are_called_with_what_was_computed(evidence: Evidence) -> Found:
    """Each attempt of each step got the values of the steps before it, and its own arguments."""
    for _, plan in _followed(evidence):
        for place, spec in plan.specs.items():
            row = plan.row_at(place)
            if row is None or spec.container:
                continue
            yield from _called_otherwise(evidence, row, plan.given.get(spec.kwargs["label"]))


def steps_are_opened_once(evidence: Evidence) -> Found:
    """The turn of a step, of a body too, comes once: however many members end at once."""
    for top, _ in _followed(evidence):
        for row in everything_below(evidence.rows, top):
            steps = evidence.rows.history[row.id]
            turns = [s for s in steps if s.from_status in {"", "pending", "ready"}]
            turns = [s for s in turns if s.to_status in {"queued", "waiting"}]
            if len(turns) > 1:
                yield Violation("doubled", plain(row.id), f"{_name(row)} was opened twice")


def bodies_run_after_their_members(evidence: Evidence) -> Found:
    """No handler of a body began before each member was complete and gave its value."""
    for top, _ in _followed(evidence):
        for chord in everything_below(evidence.rows, top):
            if chord.container != "chord":
                continue
            header, body = counting(evidence.rows, chord)[:2]
            ends = [m.finished_at for m in counting(evidence.rows, header) if m.finished_at]
            for row in everything_below(evidence.rows, body):
                begun = [a.started_at for a in evidence.rows.attempts[row.id] if a.started_at]
                if ends and begun and not row.rescue and min(begun) < max(ends):
                    text = f"{_name(row)} began before the header of its chord was complete"
                    yield Violation("doubled", plain(row.id), text)


def links_are_called_once(evidence: Evidence) -> Found:
    """What is linked to a step is called once it is complete, with its value, and else never."""
    for _, plan in _followed(evidence):
        for row, callbacks, value in _steps(plan):
            is_due = row.status == "complete" and row.outcome != "shutdown"
            expected = sorted(spec.kwargs["label"] for spec in callbacks.links) if is_due else []
            called = _called(evidence.rows, row, "link")
            labels = sorted(link.kwargs["label"] for link in called)
            if labels != expected:
                yield _miscounted(row, "links", labels, expected)
            for link in called:
                given = [value] if link.input == Input.PARENT else []
                yield from _called_otherwise(evidence, link, given)


def errbacks_are_called_as_often_as_it_fails(evidence: Evidence) -> Found:
    """Once for each final failure of the step itself, and a body's once for its header's."""
    for top, plan in _followed(evidence):
        steps = list(_steps(plan))
        labels_of = {row.id: [e.kwargs["label"] for e in cb.errbacks] for row, cb, _ in steps}
        of_headers = _called_for_headers(evidence.rows, top, labels_of)
        for row, _, _ in steps:
            own = labels_of[row.id] * len(_failures(evidence.rows, row))
            expected = sorted(
                [*own, *(label for carrier, label in of_headers if carrier == row.id)]
            )
            called = _called(evidence.rows, row, "link_error")
            labels = sorted(one.kwargs["label"] for one in called)
            # A reset gives the keys back by which a second call for a header is known.
            is_reset = any(one.status == "canceled" for one in called)
            if labels != expected and not (is_reset and {*labels} == {*expected}):
                yield _miscounted(row, "errbacks", labels, expected)
            for errback in called:
                told = plain(row.id) if errback.input == Input.FAILED_ID else None
                yield from _called_otherwise(evidence, errback, [told])


CHECKS = (
    canvases_are_whole,
    canvases_give_what_was_computed,
    steps_are_called_with_what_was_computed,
    steps_are_opened_once,
    bodies_run_after_their_members,
    links_are_called_once,
    errbacks_are_called_as_often_as_it_fails,
)


def _followed(evidence: Evidence) -> Iterator[Followed]:
    """The canvases that have come to their end, with their plans."""
    for row in list(evidence.rows.nodes.values()):
        shape = evidence.canvases.get(row.metadata.get("label"))
        if shape is not None and is_at_rest(evidence.rows, row):
            plan = SteeredPlan(evidence.rows, row, signature_of, lambda label: BY_HAND)
            plan.value_of(signature_of(shape["canvas"]))
            yield row, plan


def _steps(plan: SteeredPlan) -> Iterator[tuple[Any, Any, Any]]:
    """The rows of tasks, what is linked to them, and their values."""
    for place, spec in plan.specs.items():
        row = plan.row_at(place)
        if row is not None and not spec.container:
            yield row, callbacks_of(spec.options), plan.values[place]


def _called_otherwise(evidence: Evidence, row: Any, expected: list[Any] | None) -> Found:
    """The calls of a row's handler that, by its own words, did not get what is expected."""
    for number in range(1, row.attempt + 1):
        for line in evidence.starts.get((plain(row.id), number), []):
            if line.given != expected:
                text = f"{_name(row)} was called with {line.given} instead of {expected}"
                yield Violation("broken", plain(row.id), text)


def _called(rows: Rows, row: Any, form: str) -> list[Any]:
    return [child for child in rows.children[row.id] if child.task == TASKS[form].name]


def _miscounted(row: Any, what: str, found: list[str], expected: list[str]) -> Violation:
    kind = "doubled" if len(found) > len(expected) else "lost"
    text = f"{_name(row)} has called the {what} {found}, not {expected}"
    return Violation(kind, plain(row.id), text)  # type: ignore[arg-type]


def _failures(rows: Rows, row: Any) -> list[int]:
    """The steps in which a row has failed for good."""
    return [step.id for step in rows.history[row.id] if step.to_status == "failed"]


def _called_for_headers(
    rows: Rows, top: Any, labels_of: dict[Any, list[str]]
) -> set[tuple[Any, str]]:
    """The error callbacks of bodies that failures in the headers of their chords call.

    What a chord further down has called for a failure is not called again further up. A body
    that was finished by then, as one that was canceled, calls nobody.
    """
    called = set()
    for failed in everything_below(rows, top):
        for failure in _failures(rows, failed):
            known: set[str] = set()
            for body in _bodies_above(rows, top, failed):
                carriers = list(_first_calls(rows, body))
                fresh = [(c, label) for c in carriers for label in labels_of.get(c.id, [])]
                fresh = [(carrier, label) for carrier, label in fresh if label not in known]
                called |= {
                    (carrier.id, label)
                    for carrier, label in fresh
                    if rows.history[carrier.id][-1].id > failure
                }
                known |= {label for _, label in fresh}
    return called


def _bodies_above(rows: Rows, top: Any, row: Any) -> Iterator[Any]:
    """The bodies of the chords whose headers a row is part of, from the lowest up."""
    while row.id != top.id and row.mode != "fire_and_forget":
        parent = rows.nodes[row.parent_id]
        if not parent.container:
            return
        line = counting(rows, parent)
        if parent.container == "chord" and row.id == line[0].id:
            yield line[1]
        row = parent


def _first_calls(rows: Rows, body: Any) -> Iterator[Any]:
    """The tasks that stand for a body: the first of a chain, the members of a group."""
    if not body.container:
        yield body
        return
    line = counting(rows, body)
    chosen = {"group": line, "chain": line[:1], "chord": line[1:2]}[body.container]
    for child in chosen:
        yield from _first_calls(rows, child)

"""The auditor's checks of what comes from outside: reports, and the closing of workflows."""

from __future__ import annotations

from collections import defaultdict

from tests.chaos.evidence import Evidence
from tests.chaos.verdict import Found, Violation, name_of
from tests.chaos.watch import plain

SAYS = {"complete": "succeeded", "fail": "failed"}


def one_report_is_taken(evidence: Evidence) -> Found:
    """One report an attempt."""
    for (node, attempt), reports in evidence.reports.items():
        taken = [report for report in reports if report.was_taken]
        if len(taken) > 1:
            yield Violation("doubled", node, f"attempt {attempt} took {len(taken)} reports")


def reports_decide(evidence: Evidence) -> Found:
    """An attempt that awaits a report ends as somebody said, or without one; never by itself."""
    for node in evidence.awaiting():
        for attempt in evidence.rows.attempts[node.id]:
            at = (plain(node.id), attempt.number)
            said = {SAYS[r.verb] for r in evidence.reports.get(at, []) if r.may_count}
            if attempt.outcome == "succeeded" and "succeeded" not in said:
                text = f"{name_of(node)} succeeded at {attempt.number}, and nobody said so"
                yield Violation("broken", at[0], text)


def taken_reports_count(evidence: Evidence) -> Found:
    """What was taken is the outcome, unless the handler raised after it, or was canceled."""
    nodes = {plain(node.id): node for node in evidence.awaiting()}
    for at, reports in evidence.reports.items():
        outcomes = {
            attempt.outcome
            for attempt in evidence.rows.attempts[nodes[at[0]].id]
            if attempt.number == at[1]
        }
        for report in reports:
            if report.was_taken and not outcomes & {SAYS[report.verb], "canceled"}:
                was_done = any(line.at < report.begun for line in evidence.ends.get(at, []))
                if outcomes == {"failed"} and not was_done:
                    continue  # its handler raised after it
                text = f"attempt {at[1]} took the report {report.verb!r} and is {outcomes}"
                yield Violation("lost", at[0], text)


def nothing_is_sent_to_what_is_closed(evidence: Evidence) -> Found:
    """No signal is recorded in a run after it was closed."""
    lines = defaultdict(list)
    for node in evidence.rows.nodes.values():
        if node.parent_id == node.workflow_id and not node.rescue:
            lines[node.workflow_id].append(node)
    for workflow in evidence.rows.workflows.values():
        for node in lines[workflow.id]:
            if workflow.closed_at and node.created_at > workflow.closed_at:
                text = f"{name_of(node)} was sent to a closed workflow"
                yield Violation("broken", plain(node.id), text)


def what_was_closed_is_closed(evidence: Evidence) -> Found:
    """A close that was answered is in the row."""
    for workflow in evidence.rows.workflows.values():
        if plain(workflow.id) in evidence.closed and workflow.closed_at is None:
            yield Violation(
                "lost", plain(workflow.id), f"{workflow.subject} was closed, and is not"
            )


CHECKS = (
    one_report_is_taken,
    reports_decide,
    taken_reports_count,
    nothing_is_sent_to_what_is_closed,
    what_was_closed_is_closed,
)

"""Judge a run and print what was inflicted and what came of it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path
from statistics import quantiles
from typing import Any

from tests.chaos.arena import Blow
from tests.chaos.audit import Violation
from tests.chaos.canvases import is_in_canvas, is_linked
from tests.chaos.evidence import Evidence
from tests.chaos.profiles import Profile
from tests.chaos.run import Outcome
from tests.chaos.watch import plain

KILLS = {"kill child", "kill worker"}
COLUMNS = ("fault", "times", "nodes", "lost", "doubled", "stuck", "slowest recovery")


class Report:
    """A run's verdict."""

    def __init__(
        self, profile: Profile, outcome: Outcome, evidence: Evidence, violations: list[Violation]
    ) -> None:
        self.outcome = outcome
        self.violations = violations
        self.recoveries = _Recoveries(evidence)
        self.evidence = evidence
        self.kills = sorted(
            seconds
            for blow in outcome.blows
            if blow.kind in KILLS
            for node in blow.nodes
            if (seconds := self.recoveries.after(node, blow.at)) is not None
        )
        self.complaints = [*outcome.complaints, *self._failings(profile)]

    @property
    def is_good(self) -> bool:
        return not (self.violations or self.complaints)

    def _failings(self, profile: Profile) -> list[str]:
        failings = [
            f"{kind} was to hit unfinished work {count} times more"
            for kind, count in self.outcome.missing.items()
        ]
        if self.outcome.settled > profile.settle:
            failings.append(f"It took {self.outcome.settled:.1f} s after the last fault.")
        if self.kills and (p95 := self.percentile(95)) > profile.p95:
            failings.append(f"95 of 100 killed nodes went on within {p95:.1f} s only.")
        return failings

    def percentile(self, share: int) -> float:
        """Seconds within which that share of the killed nodes went on."""
        if len(self.kills) < 2:
            return self.kills[0] if self.kills else 0.0
        return quantiles(self.kills, n=100, method="inclusive")[share - 1]

    def rows(self) -> list[tuple[str, ...]]:
        """The table: one row a kind of fault."""
        by_kind: dict[str, list[Blow]] = defaultdict(list)
        for blow in self.outcome.blows:
            by_kind[blow.kind].append(blow)
        table = [self._row(kind, blows) for kind, blows in sorted(by_kind.items())]
        hit = {node for blow in self.outcome.blows for node in blow.nodes}
        rest = Counter(v.kind for v in self.violations if v.node not in hit)
        nodes = len(self.evidence.rows.nodes) - len(self.evidence.rows.workflows)
        total = ("all nodes", str(len(self.outcome.blows)), str(nodes))
        every = Counter(v.kind for v in self.violations)
        return [
            *table,
            ("not hit", "", "", *_numbers(rest), ""),
            (*total, *_numbers(every), ""),
        ]

    def _row(self, kind: str, blows: list[Blow]) -> tuple[str, ...]:
        nodes = {node for blow in blows for node in blow.nodes}
        wrong = Counter(v.kind for v in self.violations if v.node in nodes)
        times = [
            seconds
            for blow in blows
            for node in blow.nodes
            if (seconds := self.recoveries.after(node, blow.at)) is not None
        ]
        slowest = f"{max(times):.1f} s" if times else ""
        return (kind, str(len(blows)), str(len(nodes)), *_numbers(wrong), slowest)

    def summary(self) -> list[str]:
        """The figures beside the table."""
        attempts = Counter(
            a.outcome for rows in self.evidence.rows.attempts.values() for a in rows
        )
        starts = sum(len(lines) for lines in self.evidence.starts.values())
        needed = attempts["succeeded"]
        seconds = self.outcome.seconds
        in_canvases = [node for node in self.evidence.runs() if is_in_canvas(node)]
        callbacks = [node for node in in_canvases if is_linked(node)]
        steps = [node for node in in_canvases if not is_linked(node)]
        return [
            f"{needed} handlers accepted in {seconds:.0f} s, {starts} started; "
            f"attempts by outcome: {dict(attempts)}",
            f"killed nodes went on after: median {self.percentile(50):.1f} s, "
            f"p95 {self.percentile(95):.1f} s, slowest {max(self.kills, default=0):.1f} s",
            f"all done {self.outcome.settled:.1f} s after the last fault",
            f"canvases: {len(self.evidence.canvases)}, with {len(steps)} tasks in them and "
            f"{len(callbacks)} callbacks of those",
            *(f"{name}: {value}" for name, value in self.outcome.remarks.items()),
        ]

    def text(self) -> str:
        """The whole report as Markdown."""
        table = [COLUMNS, *self.rows()]
        widths = [max(len(row[i]) for row in table) for i in range(len(COLUMNS))]
        lines = [_line(COLUMNS, widths), _line(["-" * width for width in widths], widths)]
        lines += [_line(row, widths) for row in table[1:]]
        lines += ["", *(f"* {line}" for line in self.summary()), ""]
        lines += [f"* WRONG ({v.kind}): {v.text}" for v in self.violations[:100]]
        lines += [f"* WRONG: {complaint}" for complaint in self.complaints]
        if len(self.violations) > 100:
            lines.append(f"* ... and {len(self.violations) - 100} more")
        lines.append("Nothing is wrong." if self.is_good else "THIS RUN HAS FAILED.")
        return "\n".join(lines) + "\n"

    def save(self, path: Path) -> None:
        """Write everything down for a program to read."""
        path.write_text(
            json.dumps(
                {
                    "blows": [asdict(blow) for blow in self.outcome.blows],
                    "violations": [asdict(violation) for violation in self.violations],
                    "complaints": self.complaints,
                    "recoveries": self.kills,
                },
                indent=1,
            )
        )


class _Recoveries:
    """How long it took a node to go on after a fault."""

    def __init__(self, evidence: Evidence) -> None:
        self._changes = {
            # A node that waited for its children was not held up itself.
            plain(node_id): [s.at.timestamp() for s in steps if s.from_status != "waiting"]
            for node_id, steps in evidence.rows.history.items()
        }

    def after(self, node: str, at: float) -> float | None:
        """Seconds until the next change of the node's status that was recorded."""
        later = [change for change in self._changes.get(node, []) if change > at]
        return min(later) - at if later else None


def _numbers(wrong: Counter[Any]) -> tuple[str, ...]:
    return tuple(str(wrong[kind]) for kind in ("lost", "doubled", "stuck"))


def _line(cells: Any, widths: list[int]) -> str:
    return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"

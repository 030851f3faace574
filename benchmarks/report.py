"""Medians, spread, ratios and goals of what the rounds have measured, as Markdown."""

from __future__ import annotations

import json
import platform
import statistics
from collections import defaultdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.plan import Goal, Workload

PACKAGES = (
    "backbeat-celery",
    "celery",
    "kombu",
    "django",
    "psycopg",
    "sqlalchemy",
    "dbos",
    "absurd-sdk",
)


class Results:
    """What was measured, by workload and contestant."""

    def __init__(self, broker: str = "redis") -> None:
        self.broker = broker
        self.rounds: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self._reasons: dict[tuple[str, str], str] = {}

    @property
    def is_wrong(self) -> bool:
        """Whether a round of ours has failed."""
        return any(name.startswith("ours") for _, name in self._reasons)

    def note(self, workload: Workload, name: str, measured: dict[str, Any]) -> None:
        """Keep the figures of a round."""
        self.rounds[workload.name][name].append(measured)

    def note_failure(self, workload: Workload, name: str, reason: str) -> None:
        """Keep the reason why a round has no figures."""
        self._reasons[workload.name, name] = reason

    def add(self, path: Path) -> None:
        """Take what an earlier part of this run has written."""
        for workload, contestants in json.loads(path.read_text())["results"].items():
            for name, rounds in contestants.items():
                self.rounds[workload][name] += rounds

    def values(self, workload: Workload, name: str, figure: str = "rate") -> list[float]:
        """A figure of a contestant, one a round, in order of size."""
        found = self.rounds[workload.name][name]
        if figure not in {"rate", "time"}:
            return sorted(m["figures"][figure] for m in found if figure in m.get("figures", {}))
        pairs = [(m["count"], m["seconds"]) for m in found if m.get("seconds")]
        rate = figure == "rate"
        return sorted(count / time if rate else time / count for count, time in pairs)

    def table(self, workload: Workload) -> str:
        """The figures of a workload."""
        figures = self._figures(workload)
        heads = ["", workload.unit, "lowest", "highest", "rounds", *figures, "ms of CPU"]
        lines = [f"## {workload.name}: {workload.title}", "", *_head(heads)]
        for name in workload.contestants:
            if rates := self.values(workload, name):
                median = statistics.median(rates)
                shown = [f"{value:.0f}" for value in (median, rates[0], rates[-1])]
                rest = [self._shown(workload, name, figure) for figure in figures]
                lines.append(
                    _row([name, *shown, str(len(rates)), *rest, self.cpu(workload, name)])
                )
        lines += ["", *self.goals(workload)]
        reasons = {n: self._reasons.get((workload.name, n)) for n in workload.contestants}
        lines += [f"{name}: {reason[:200]}\n" for name, reason in reasons.items() if reason]
        return "\n".join(lines)

    def goals(self, workload: Workload) -> list[str]:
        """The goals of a workload, and what they came to."""
        lines = _head(["goal", "measured", ""])
        for goal in workload.goals:
            bound = f"{goal.bound(self.broker):g}"
            words = f"at most {bound}" if goal.at_least is None else f"at least {bound}"
            value = self.ratio(workload, goal)
            unit = " x" if goal.than else ""
            what = f"{goal.ours}{f' / {goal.than}' if goal.than else ''}, {goal.figure}"
            if value is None:
                lines.append(_row([f"{what}: {words}{unit}", "-", "not measured"]))
                continue
            verdict = "met" if goal.is_met(value, self.broker) else "**missed**"
            lines.append(_row([f"{what}: {words}{unit}", f"{value:.2f}{unit}", verdict]))
        return [*lines, ""]

    def ratio(self, workload: Workload, goal: Goal) -> float | None:
        """What a goal speaks of: a median, or the ratio of two."""
        ours = self.values(workload, goal.ours, goal.figure)
        theirs = self.values(workload, goal.than, goal.figure) if goal.than else [1.0]
        if not ours or not theirs:
            return None
        return statistics.median(ours) / statistics.median(theirs)

    def _figures(self, workload: Workload) -> list[str]:
        found: dict[str, None] = {}
        for rounds in self.rounds[workload.name].values():
            for measured in rounds:
                found |= dict.fromkeys(measured.get("figures", {}))
        return list(found)

    def _shown(self, workload: Workload, name: str, figure: str) -> str:
        values = self.values(workload, name, figure)
        return f"{statistics.median(values):.4g}" if values else ""

    def cpu(self, workload: Workload, name: str) -> str:
        """Milliseconds of CPU time a unit, by kind of process."""
        found = [m for m in self.rounds[workload.name][name] if m.get("cpu")]
        kinds = found[0]["cpu"] if found else ()
        parts = {
            kind: statistics.median(m["cpu"][kind] / m["count"] for m in found) * 1000
            for kind in kinds
        }
        shown = ", ".join(f"{kind} {value:.2f}" for kind, value in parts.items())
        return f"{sum(parts.values()):.2f}: {shown}" if parts else ""

    def conditions(self, options: dict[str, Any]) -> str:
        """What the figures were measured with, and how busy the machine was."""
        loads = [
            measured["load"]
            for contestants in self.rounds.values()
            for rounds in contestants.values()
            for measured in rounds
            if "load" in measured
        ]
        lines = [f"* {name}: {value}" for name, value in machine().items()]
        lines += [f"* {name}: {value}" for name, value in options.items()]
        if loads:
            lines.append(
                f"* load before a round (`uptime`, one minute): {min(loads):.1f} to"
                f" {max(loads):.1f}, median {statistics.median(loads):.1f}; a round itself is a"
                " load of about 2"
            )
        return "\n".join(lines)


def _head(heads: list[str]) -> list[str]:
    return [_row(heads), _row(["---"] * len(heads))]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def machine() -> dict[str, str]:
    """Where and with what the figures were measured."""
    with open("/proc/cpuinfo") as file:
        cpus = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "python": platform.python_version(),
        "cpu": f"{len(cpus)} x {cpus[0] if cpus else '?'}",
        "packages": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed)"

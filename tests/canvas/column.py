"""What came of the tests in one column, the table of all columns, and whether it is enough."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.canvas.classes import GOAL_OF_B, B, class_of

TITLES = {"plain": "plain Celery", "ours": "nodes"}
NOT_RUN = "not run"


@dataclass
class Column:
    """How the tests went in one column."""

    outcomes: dict[str, str] = field(default_factory=dict)
    """Of each test: `passed`, or in one line what went wrong; of parameters the worst."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Of each test that did not pass: all that pytest said."""
    times: dict[str, float] = field(default_factory=dict)
    """Of each test: its seconds, those of its fixtures included."""
    killed: Counter[str] = field(default_factory=Counter)
    """Of the workers' children that were killed: how many were at work, and how many idle."""
    seconds: float = 0.0

    def passed(self, tests: Sequence[str]) -> list[str]:
        """Those of the tests that passed."""
        return [test for test in tests if self.outcomes.get(test) == "passed"]

    def missed(self, tests: Sequence[str]) -> list[tuple[str, str]]:
        """Those of the tests that did not pass or were not run, each with what was said."""
        said = ((test, self.outcomes.get(test, NOT_RUN)) for test in tests)
        return [(test, outcome) for test, outcome in said if outcome != "passed"]

    def read(self, path: Path) -> None:
        """Take the outcomes of a junit report."""
        cases: dict[str, list[tuple[str, str]]] = defaultdict(list)
        seconds: dict[str, dict[str | None, float]] = {}
        for case in ET.parse(path).getroot().iter("testcase"):
            group = case.get("classname", "").rpartition(".")[2]
            name = case.get("name", "").partition("[")[0]
            test = f"{group}::{name}"
            cases[test].append(_outcome(case))
            for found in case.iterfind("properties/property[@name='killed']"):
                self.killed[found.get("value", "")] += 1
            # A subtest has an entry of its own within the time of its test.
            known = seconds.setdefault(test, {})
            known[case.get("name")] = max(
                float(case.get("time", 0)), known.get(case.get("name"), 0.0)
            )
        self.times |= {test: sum(known.values()) for test, known in seconds.items()}
        for test, outcomes in cases.items():
            worse = [one for one in outcomes if one[0] != "passed"]
            self.outcomes[test] = worse[0][0] if worse else "passed"
            if worse:
                self.reasons[test] = "\n\n".join(reason for _, reason in worse)


def _outcome(case: Any) -> tuple[str, str]:
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            message = (found.get("message") or found.text or "").strip()
            first = message.splitlines()[0] if message else ""
            return f"{kind}: {first}"[:160], f"{case.get('name')}: {message}\n{found.text or ''}"
    return "passed", ""


def table(tests: Sequence[str], columns: Mapping[str, Column]) -> str:
    """How many of each class passed in each column, and how long that took."""
    width = max(len(title) for title in TITLES.values())
    lines = [f"class  tests  {'  '.join(f'{TITLES[name]:>{width}}' for name in columns)}"]
    for wanted in sorted({class_of(test) for test in tests}):
        mine = [test for test in tests if class_of(test) == wanted]
        counts = "  ".join(f"{len(c.passed(mine)):>{width}}" for c in columns.values())
        lines.append(f"{wanted:<5}  {len(mine):>5}  {counts}")
    times = "  ".join(f"{c.seconds:>{width - 2}.0f} s" for c in columns.values())
    return "\n".join([*lines, f"{'':<12}  {times}"])


def shortcomings(
    tests: Sequence[str], columns: Mapping[str, Column], *, are_killed: bool = False
) -> list[str]:
    """Why the run is no success, in sentences.

    All tests of class A must pass in each column, and on nodes `GOAL_OF_B` of all of class B.
    While children of the workers are killed, plain Celery need not pass.
    """
    if not tests:
        return ["No test was run."]
    found = []
    bar = [test for test in tests if class_of(test) == "A"]
    for name, column in columns.items():
        if not any(test in column.outcomes for test in tests):
            found.append(f"No test was run on {TITLES[name]}.")
        must_pass = name == "ours" or not are_killed
        if must_pass and (missed := column.missed(bar)):
            found.append(f"{len(missed)} of {len(bar)} tests of class A fail on {TITLES[name]}.")
    if "ours" in columns and set(tests) >= B:
        count = len(columns["ours"].passed(list(B)))
        if count < GOAL_OF_B:
            found.append(f"{count} of {len(B)} tests of class B pass on nodes, not {GOAL_OF_B}.")
    return found

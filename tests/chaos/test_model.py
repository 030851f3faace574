"""The design on paper holds in every order of its steps; the same with an error does not."""

from __future__ import annotations

import pytest

from tests.chaos.explore import explore
from tests.chaos.model import Design, World

CALM = World(deaths=0, zombies=0, strays=False, sweeper=False)
STORM = World(deaths=2, zombies=1)
SQUALL = World(deaths=1, zombies=1, addition=False)


def test_without_accidents_the_workers_join_by_themselves():
    findings = explore(Design(), CALM)
    assert findings.broken == []
    assert findings.states > 100


def test_whatever_dies_or_is_lost_the_parent_is_joined_once_and_nothing_is_stuck():
    findings = explore(Design(), STORM)
    assert findings.broken == []
    assert findings.states > 10_000


@pytest.mark.parametrize(
    ("error", "world", "promise"),
    [
        ("looks_after_commit", CALM, "stuck"),
        ("guards_next_seq", CALM, "joined before the last child"),
        ("guards_next_seq", CALM, "joined twice"),
        ("fences", SQUALL, "accepted an attempt that was fenced off"),
        ("guards_expiry", SQUALL, "accepted an attempt that was fenced off"),
        ("sweeps_leases", SQUALL, "stuck"),
        ("sweeps_messages", SQUALL, "stuck"),
        ("sweeps_parents", SQUALL, "stuck"),
    ],
)
def test_a_planted_error_is_found(error: str, world: World, promise: str):
    findings = explore(Design(**{error: False}), world)
    assert promise in findings.promises, findings
    ways = dict(findings.broken)
    print(error, "→", promise, ":", "; ".join(ways[promise]))

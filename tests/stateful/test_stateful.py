"""Random trees, random accidents: the engine against the model, and the check of the checks."""

from __future__ import annotations

import logging
import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.stateful.machine import Machine
from tests.stateful.mutants import MUTANTS

PROFILES = {
    # examples, steps of each, examples to find a mutant in
    "quick": (50, 20, 300),
    "long": (600, 30, 600),
    "thorough": (2000, 40, 1000),
}
EXAMPLES, STEPS, HUNT = PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "quick")]
COMMON = settings(
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    stateful_step_count=STEPS,
)


@pytest.fixture(autouse=True)
def deaths_do_not_add_up(db, settings):
    """The model knows no limit of lost attempts: `integration/test_recovery.py` tests that."""
    settings.BACKBEAT = {"MAX_LOST_ATTEMPTS": 10_000}
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(3600)
def test_whatever_happens_every_tree_ends_as_the_model_says():
    run_state_machine_as_test(Machine, settings=settings(COMMON, max_examples=EXAMPLES))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_an_engine_with_a_fault_is_found_out(mutant, monkeypatch):
    mutant(monkeypatch)
    hunt = settings(COMMON, max_examples=HUNT, phases=[Phase.generate])
    with pytest.raises(Exception) as found:  # noqa: PT011
        run_state_machine_as_test(Machine, settings=hunt)
    print(f"{type(found.value).__name__}: {found.value}"[:500])

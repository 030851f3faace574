"""Random trees, random accidents: the engine against the model, and the check of the checks."""

from __future__ import annotations

import logging
import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.stateful.machine import Machine
from tests.stateful.mutants import MUTANTS
from tests.stateful.weather import weather

PROFILES = {
    # examples that Hypothesis makes, steps of each, seeds
    "quick": (40, 15, 60),
    "thorough": (1500, 40, 3000),
}
EXAMPLES, STEPS, SEEDS = PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "quick")]
HUNT = 150


@pytest.fixture(autouse=True)
def deaths_do_not_add_up(db, settings):
    """The model knows no limit of lost attempts: `integration/test_recovery.py` tests that."""
    settings.BACKBEAT = {"MAX_LOST_ATTEMPTS": 10_000}
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(7200)
def test_whatever_happens_every_tree_ends_as_the_model_says():
    profile = settings(
        deadline=None,
        database=None,
        max_examples=EXAMPLES,
        print_blob=True,
        stateful_step_count=STEPS,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Machine, settings=profile)


@pytest.mark.timeout(7200)
def test_whatever_storm_a_seed_gives_every_tree_ends_as_the_model_says():
    for seed in range(SEEDS):
        try:
            weather(seed)
        except Exception as exc:
            exc.add_note(f"The seed was {seed}: call weather({seed}).")
            raise


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_an_engine_with_a_fault_is_found_out(mutant, monkeypatch):
    mutant(monkeypatch)
    assert any(_is_found(seed) for seed in range(HUNT))


def _is_found(seed: int) -> bool:
    try:
        weather(seed)
    except Exception as exc:  # whatever the fault leads to
        print(f"Seed {seed}: {type(exc).__name__}: {exc}"[:500])
        return True
    return False

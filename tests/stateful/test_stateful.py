"""Random trees, random accidents: the engine against the model, and the check of the checks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from backbeat_celery.sql import session
from tests.stateful.machine import Machine
from tests.stateful.mutants import CANVAS_MUTANTS, MUTANTS, STEERING_MUTANTS
from tests.stateful.steering import steered_canvases, steered_weather
from tests.stateful.weather import weather

PROFILES = {
    # examples that Hypothesis makes, steps of each, seeds
    "brief": (8, 12, 8),
    "quick": (30, 15, 40),
    "thorough": (1500, 40, 3000),
}
EXAMPLES, STEPS, SEEDS = PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "brief")]
HUNT = 150
FOUND_BY = {
    "cancels_without_opening": 36,
    "cancels_the_top_alone": 25,
    "resolves_without_children": 11,
    "spares_siblings_at_a_shutdown": 25,
    "forgets_what_is_paused": 6,
    "retries_beside_the_old_children": 12,
    "cancels_what_takes_nothing": 24,
}


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
    _run_each(range(SEEDS), weather)


@pytest.mark.timeout(7200)
def test_whatever_an_operator_does_in_a_storm_nothing_gets_stuck():
    _run_each(range(SEEDS // 2), steered_weather)


@pytest.mark.timeout(7200)
def test_whatever_an_operator_does_to_canvases_each_value_is_right():
    _run_each(range(SEEDS), steered_canvases)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_an_engine_with_a_fault_is_found_out(mutant, monkeypatch):
    # The faults are in the portable steps.
    monkeypatch.setattr(session, "is_enabled", False)
    mutant(monkeypatch)
    assert any(_is_found(seed) for seed in range(HUNT))


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("mutant", STEERING_MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_fault_in_the_verbs_is_found_out(mutant, monkeypatch):
    monkeypatch.setattr(session, "is_enabled", False)
    mutant(monkeypatch)
    assert any(_is_found(seed, steered_weather) for seed in _seeds_for(mutant))


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("mutant", CANVAS_MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_fault_in_what_a_verb_does_to_a_canvas_is_found_out(mutant, monkeypatch):
    monkeypatch.setattr(session, "is_enabled", False)
    mutant(monkeypatch)
    assert any(_is_found(seed, steered_canvases) for seed in _seeds_for(mutant))


def _run_each(seeds: Iterable[int], run: Callable[[int], None]) -> None:
    for seed in seeds:
        try:
            run(seed)
        except Exception as exc:
            exc.add_note(f"The seed was {seed}: call {run.__name__}({seed}).")
            raise


def _seeds_for(mutant: Callable[..., None]) -> list[int]:
    # The seed that found it when it was planted saves the hunt, as long as it still does.
    return [FOUND_BY.get(mutant.__name__, 0), *range(HUNT)]


def _is_found(seed: int, run: Callable[[int], None] = weather) -> bool:
    try:
        run(seed)
    except Exception as exc:  # whatever the fault leads to
        print(f"Seed {seed}: {type(exc).__name__}: {exc}"[:500])
        return True
    return False

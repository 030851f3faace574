"""The table of transitions, written out a second time and compared pair by pair."""

from __future__ import annotations

from itertools import product

import pytest

from backbeat_celery import states
from backbeat_celery.states import Mode, Status

TABLE = {
    "pending": "ready queued waiting paused complete canceled",
    "ready": "queued waiting paused complete canceled",
    "queued": "running paused complete failed canceled",
    "running": "waiting complete retrying failed queued canceled",
    "retrying": "running queued paused canceled",
    "paused": "queued canceled",
    "waiting": "complete canceled",
    "failed": "queued paused waiting complete canceled",
    "complete": "",
    "canceled": "",
}


@pytest.mark.parametrize(("before", "after"), list(product(TABLE, TABLE)))
def test_the_table_allows_exactly_what_the_contract_says(before, after):
    assert states.is_allowed(before, after) == (after in TABLE[before].split())


def test_the_table_knows_every_status():
    assert set(states.TRANSITIONS) == set(Status) == set(TABLE)


def test_a_status_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="startet"):
        states.is_allowed("queued", "startet")


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        states.TRANSITIONS[Status.COMPLETE] = frozenset({Status.QUEUED})


def test_nothing_follows_a_finished_status_and_something_every_other():
    assert {s for s in Status if not states.TRANSITIONS[s]} == states.FINISHED
    assert {"complete", "canceled"} == states.FINISHED


def test_finished_and_unfinished_share_out_all_statuses():
    assert set(Status) == states.FINISHED | states.UNFINISHED
    assert not states.FINISHED & states.UNFINISHED


def test_only_claimable_statuses_lead_to_running():
    leading = {s for s in Status if Status.RUNNING in states.TRANSITIONS[s]}
    assert leading == states.CLAIMABLE == {"queued", "retrying"}


def test_every_unfinished_status_can_be_canceled():
    assert {s for s in Status if Status.CANCELED in states.TRANSITIONS[s]} == states.UNFINISHED


def test_a_node_is_created_in_one_of_four_statuses():
    assert {"pending", "ready", "queued", "paused"} == states.INITIAL


def test_children_are_pending_until_the_handler_is_accepted():
    assert {"waiting"} == states.UNFINISHED - states.UNACCEPTED


def test_parents_wait_for_all_but_fire_and_forget():
    assert set(Mode) - states.COUNTING == {Mode.FIRE_AND_FORGET}


@pytest.mark.parametrize(
    ("enum", "values"),
    [
        (states.Status, set(TABLE)),
        (states.Mode, {"blocking", "non_blocking", "fire_and_forget"}),
        (states.Outcome, {"succeeded", "resolved", "shutdown"}),
    ],
)
def test_the_words_are_those_of_the_contract(enum, values):
    assert set(enum.values) == values

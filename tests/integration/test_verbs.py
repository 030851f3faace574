"""Every verb on every status: the table in `tests/verbs.py`, and nothing changed by a refusal."""

from __future__ import annotations

import pytest
from django.db import transaction

from backbeat_celery.exceptions import BadInput, InvalidTransition
from backbeat_celery.models import Attempt, Node, Transition, Workflow
from backbeat_celery.states import Status
from tests.integration.conftest import rows_of
from tests.stages import staged
from tests.stateful import invariants
from tests.verbs import ALLOWED, ONE_NODE

EVERYTHING = (Workflow, Node, Transition, Attempt)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("verb", ALLOWED)
def test_a_verb_on_a_status(sim, verb, status):
    node = staged(sim, status)
    if status not in ALLOWED[verb]:
        before = rows_of(*EVERYTHING)
        with pytest.raises(InvalidTransition) as refusal:
            getattr(node, verb)(by="olga", reason="a try")
        error = refusal.value
        assert (error.current, error.attempted, error.node_id) == (status, verb, node.pk)
        assert rows_of(*EVERYTHING) == before
        return
    getattr(node, verb)(by="olga", reason="a try")
    sim.in_flight  # noqa: B018  (what the verb left to do is done, and nothing delivered)
    node.refresh_from_db()
    assert node.status in ALLOWED[verb][status]
    assert not invariants.broken_now()
    sim.advance(days=1)
    assert not invariants.broken_at_rest()


@pytest.mark.parametrize("verb", ONE_NODE)
def test_no_verb_moves_the_root(sim, verb):
    root = staged(sim, Status.QUEUED).workflow.root
    with pytest.raises(InvalidTransition, match="steer its workflow"):
        getattr(root, verb)()
    root.refresh_from_db()
    assert root.status == "waiting"


@pytest.mark.parametrize("verb", ["retry", "resolve", "shutdown", "cancel"])
def test_the_history_names_who_and_why(sim, verb):
    node = staged(sim, Status.FAILED)
    getattr(node, verb)(by="olga", reason="the gateway is back")
    last = node.history[-1]
    assert (last.actor, last.reason) == ("olga", "the gateway is back")


def test_a_user_is_kept_by_name(sim, django_user_model):
    node = staged(sim, Status.FAILED)
    node.resolve(by=django_user_model.objects.create_user("olga"))
    assert node.history[-1].actor == "olga"


@pytest.mark.parametrize("said", [{"by": 7}, {"reason": 7}, {"reason": None}])
def test_who_and_why_are_texts(sim, said):
    node = staged(sim, Status.FAILED)
    with pytest.raises(BadInput):
        node.resolve(**said)
    node.refresh_from_db()
    assert node.status == "failed"


def test_hostile_texts_are_stored_harmlessly(sim):
    node = staged(sim, Status.FAILED)
    node.resolve(by="o\x00lga" * 100, reason="\ud800 because " * 100)
    last = node.history[-1]
    assert len(last.actor) == 150
    assert len(last.reason) == 255


@pytest.mark.parametrize("verb", ONE_NODE)
def test_a_verb_is_part_of_the_callers_transaction(sim, verb):
    node = staged(sim, Status.FAILED)
    with transaction.atomic():
        getattr(node, verb)()
        transaction.set_rollback(True)
    node.refresh_from_db()
    assert node.status == "failed"

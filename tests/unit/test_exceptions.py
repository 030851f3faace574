"""The error family: data for programs, a sentence for people."""

from __future__ import annotations

import pickle
from uuid import uuid4

import pytest

from backbeat_celery import exceptions
from backbeat_celery.exceptions import (
    BackbeatError,
    BadInput,
    InvalidTransition,
    NodeFinished,
    StaleAttempt,
)

FAMILY = [
    value
    for value in vars(exceptions).values()
    if isinstance(value, type) and issubclass(value, Exception)
]
PLAIN = [kind for kind in FAMILY if not issubclass(kind, InvalidTransition)]


def test_all_are_of_one_family():
    assert all(issubclass(kind, BackbeatError) for kind in FAMILY)


@pytest.mark.parametrize("kind", FAMILY)
def test_the_picture_of_the_family_shows_each(kind):
    assert kind.__name__ in (exceptions.__doc__ or "")


@pytest.mark.parametrize("kind", PLAIN)
def test_a_bare_raise_explains_itself(kind):
    assert str(kind()) == kind.__doc__
    assert str(kind("told")) == "told"


@pytest.mark.parametrize("kind", PLAIN)
def test_an_error_survives_pickling(kind):
    copy = pickle.loads(pickle.dumps(kind("told")))
    assert (type(copy), str(copy)) == (kind, "told")


@pytest.mark.parametrize("kind", [k for k in FAMILY if k.__name__.startswith("Bad")][1:])
def test_bad_input_is_a_value_error(kind):
    assert issubclass(kind, (BadInput, ValueError))


@pytest.mark.parametrize("kind", [InvalidTransition, StaleAttempt, NodeFinished])
def test_a_refused_step_carries_its_data(kind):
    node_id = uuid4()
    error = kind("complete", "retry", node_id)
    assert (error.current, error.attempted, error.node_id) == ("complete", "retry", node_id)
    assert all(word in str(error) for word in ("complete", "retry", str(node_id)))


@pytest.mark.parametrize("kind", [InvalidTransition, StaleAttempt, NodeFinished])
def test_a_refused_step_survives_pickling(kind):
    error = kind("complete", "retry", uuid4(), "Look above.")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)

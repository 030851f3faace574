"""Tokens: what is signed comes back, and nothing else does."""

from __future__ import annotations

import string
from uuid import uuid4

import pytest
from django.core import signing

from backbeat_celery.exceptions import BadInput, BadToken
from backbeat_celery.inputs.tokens import SALT, Ticket, read, sign


@pytest.fixture
def ticket():
    return Ticket("default", uuid4(), 3, uuid4())


def test_a_ticket_comes_back(ticket):
    assert read(sign(ticket)) == ticket


def test_a_token_fits_into_a_url(ticket):
    assert set(sign(ticket)) <= set(string.ascii_letters + string.digits + "-_:")


def test_every_altered_character_is_found(ticket):
    token = sign(ticket)
    body = token.partition(":")[0]
    for place in range(len(body)):
        other = "A" if token[place] != "A" else "B"
        with pytest.raises(BadToken):
            read(token[:place] + other + token[place + 1 :])


@pytest.mark.parametrize(
    "said", [None, 7, "x", [], [1, 2, 3], ["default", "x", 1, "y"], {"a": 1, "b": 2}]
)
def test_what_others_have_signed_with_the_same_salt_is_refused(said):
    with pytest.raises(BadToken):
        read(signing.dumps(said, salt=SALT))


def test_a_database_that_is_gone_is_named(ticket):
    token = sign(Ticket("archive", ticket.node_id, 1, ticket.claim_id))
    with pytest.raises(BadToken, match="database"):
        read(token)


def test_the_error_does_not_repeat_the_token(ticket):
    token = sign(ticket) + "x"
    with pytest.raises(BadInput) as caught:
        read(token)
    assert token not in str(caught.value)

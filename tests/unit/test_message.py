"""Headers of messages: one that we have not written is none of ours."""

from __future__ import annotations

from uuid import UUID

import pytest

from backbeat_celery.inputs.message_headers import CLAIM_HEADER, HEADER
from backbeat_celery.worker.message import parse

NODE, OTHER, CLAIM = (str(UUID(int=n)) for n in (1, 2, 3))
GOOD = {"node": NODE, "attempt": 2, "db": "default"}


def parsed(changes, **headers):
    return parse({HEADER: {**GOOD, **changes}, "id": "task", **headers}, "tests.task")


def test_a_header_of_ours_is_read():
    message = parsed({"others": [OTHER, NODE, OTHER]}, **{CLAIM_HEADER: CLAIM})

    assert (message.node_id, message.attempt, message.using) == (UUID(NODE), 2, "default")
    assert message.others == (UUID(OTHER),)
    assert (message.claim_id, message.task_id) == (UUID(CLAIM), "task")


def test_each_message_without_a_claim_gets_one_of_its_own():
    assert parsed({}).claim_id != parsed({}).claim_id


@pytest.mark.parametrize(
    "changes",
    [
        {"more": 1},
        {"node": 7},
        {"node": "no id"},
        {"attempt": "2"},
        {"attempt": True},
        {"attempt": 0},
        {"attempt": 2**31},
        {"db": "nowhere"},
        {"others": 7},
        {"others": [7]},
        {"others": ["no id"]},
    ],
    ids=str,
)
def test_a_header_that_is_not_ours_is_refused(changes):
    assert parsed(changes) is None


@pytest.mark.parametrize("header", [None, "text", [], {"node": NODE}])
def test_what_is_no_header_is_refused(header):
    assert parse({HEADER: header}, "tests.task") is None


def test_a_claim_that_is_no_id_is_refused():
    assert parsed({}, **{CLAIM_HEADER: "no id"}) is None

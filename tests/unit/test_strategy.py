"""A node's message that Celery cannot read is refused, and its worker lives on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import InvalidTaskError

from backbeat_celery.runtime.content_type import CONTENT_TYPE
from backbeat_celery.worker import strategy
from tests.workflows import done, plain

ABOUT = {"id": "1", "node": "7"}
GOOD = {
    "id": "1",
    "task": "x",
    "timelimit": [None, 30.5],
    "retries": 0,
    "stamps": {},
    "backbeat": ABOUT,
}
JSON = "application/json"


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Take a message with these headers; Celery's own strategy gives the message back."""

    def default(task: Any, app: Any, consumer: Any, **options: Any) -> Any:
        def handle(message: Any, body: Any, ack: Any) -> Any:
            return body() if body else message

        return handle

    monkeypatch.setattr(strategy, "default_strategy", default)
    handle = strategy.safe_strategy(done, None, SimpleNamespace(hub=None, pool=None))
    return lambda body=None, kind=CONTENT_TYPE, **headers: handle(
        SimpleNamespace(headers={**GOOD, **headers}, content_type=kind), body, None
    )


@pytest.mark.parametrize(
    "headers", [{}, {"timelimit": None}, {"timelimit": (1, 2)}, {"stamped_headers": ["a"]}]
)
def test_a_good_message_is_taken(take, headers):
    assert take(**headers).headers == {**GOOD, **headers}


@pytest.mark.parametrize(
    "headers",
    [
        {"timelimit": [1]},
        {"timelimit": "12"},
        {"timelimit": ["1", None]},
        {"timelimit": 5},
        {"id": []},
        {"id": 0},
        {"group": {}},
        {"retries": "many"},
        {"stamps": []},
        {"stamped_headers": [[]]},
    ],
)
def test_a_header_of_a_wrong_type_is_refused(take, headers):
    with pytest.raises(InvalidTaskError):
        take(**headers)


@pytest.mark.parametrize("error", [TypeError, KeyError, OverflowError, RecursionError])
def test_what_makes_celery_stumble_is_refused(take, error):
    def stumble() -> None:
        raise error

    with pytest.raises(InvalidTaskError):
        take(stumble)


@pytest.mark.parametrize("error", [TypeError, KeyError])
@pytest.mark.parametrize("header", [None, {**ABOUT, "id": "of another message"}])
def test_an_error_in_another_message_is_celerys(take, error, header):
    def stumble() -> None:
        raise error

    with pytest.raises(error):
        take(stumble, kind=JSON, backbeat=header)
    assert take(kind=JSON, backbeat=header, timelimit="12").headers["timelimit"] == "12"


@pytest.mark.parametrize("headers", [{"backbeat": None}, {"backbeat": {**ABOUT, "id": "2"}}])
def test_a_nodes_message_that_does_not_say_which_is_refused(take, headers):
    with pytest.raises(InvalidTaskError):
        take(**headers)


def test_an_error_of_the_broker_is_not_the_messages(take):
    def disconnect() -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        take(disconnect)


def test_every_kind_of_task_is_guarded(sim):
    assert {done.Strategy, plain.Strategy} == {"backbeat_celery.worker.strategy:safe_strategy"}

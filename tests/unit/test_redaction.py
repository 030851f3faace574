"""What is to be hidden is hidden wherever it is: by name, by place, and where it is quoted."""

from __future__ import annotations

from functools import wraps

import pytest
from celery import current_app

from backbeat_celery import node_task, signal
from backbeat_celery.engine.after_commit import shown_args, shown_kwargs
from backbeat_celery.inputs.mapped_tasks import MAP, STARMAP
from backbeat_celery.inputs.redaction import (
    node_secrets,
    redact,
    redact_args,
    scrub,
    secrets_of,
)
from backbeat_celery.models import Node
from backbeat_celery.states import Input
from tests import workflows


@node_task(name="tests.charge")
def charge(card, amount, *rest, pin=None):
    """A handler with a parameter that is hidden."""


@pytest.fixture(autouse=True)
def hidden(settings):
    settings.BACKBEAT = {"REDACT": ["card", "pin"]}


def test_names_hide_at_any_depth():
    value = {"a": [{"card": 1, "b": {"pin": [2], "c": 3}}], "card": {"d": 4}}
    shown = {"a": [{"card": "•••", "b": {"pin": "•••", "c": 3}}], "card": "•••"}
    assert redact(value) == shown
    assert value["card"] == {"d": 4}


def test_arguments_by_position_are_hidden_by_their_parameters():
    assert redact_args("tests.charge", ["4111", {"pin": 1, "b": 2}]) == [
        "•••",
        {"pin": "•••", "b": 2},
    ]


def test_a_value_whose_parameter_is_not_known_is_hidden():
    assert redact_args("unknown.task", ["4111", {"a": 1}]) == ["•••", "•••"]
    assert secrets_of("unknown.task", ["4111", {"a": 1}], {"b": "x"}) == {"4111", "a", "1"}
    assert redact_args("tests.charge", ["4111", 5, "rest", 7]) == ["•••", 5, "•••", "•••"]
    assert shown_args(Node(task="unknown.task", args=[1, 2])) == "('***', '***')"


def test_positions_of_a_task_without_a_signature_are_hidden(monkeypatch):
    monkeypatch.setattr(current_app.tasks["tests.charge"], "run", type)
    assert redact_args("tests.charge", ["4111", 5]) == ["•••", "•••"]


def decorated(handler):
    """Give the handler an argument that no caller names, as decorators of projects do."""

    @wraps(handler)
    def call(*args, **kwargs):
        return handler("gateway", *args, **kwargs)

    return call


@pytest.mark.parametrize(
    ("name", "options"), [("plain", {}), ("retried", {"autoretry_for": (ValueError,)})]
)
def test_positions_behind_a_decorator_are_hidden(name, options):
    @node_task(name=f"tests.decorated.{name}", **options)
    @decorated
    def pay(gateway, card, amount):
        """A handler whose arguments are not where its names say."""

    @node_task(name=f"tests.harmless.{name}", **options)
    @decorated
    def count(gateway, amount):
        """A handler with nothing to hide."""

    assert redact_args(pay.name, ["4111", 5]) == ["•••", "•••"]
    assert redact_args(count.name, [5]) == [5]


def test_what_celery_wraps_around_a_handler_hides_nothing():
    @node_task(name="tests.autoretried", autoretry_for=(ValueError,))
    def pay(card, amount):
        """A handler whose arguments are where its names say."""

    assert redact_args(pay.name, ["4111", 5]) == ["•••", 5]


def test_messages_show_neither():
    node = Node(task="tests.charge", args=["4111", 5], kwargs={"deep": [{"pin": "4711"}]})
    assert shown_args(node) == "('***', 5)"
    assert shown_kwargs(node) == "{'deep': [{'pin': '***'}]}"


def test_arguments_behind_those_that_other_nodes_give_are_where_they_will_be():
    @node_task(name="tests.refund")
    def refund(amount, card, note=""):
        """A handler that gets the amount from another node."""

    node = Node(task=refund.name, args=["4111", "late"], input=Input.PREVIOUS)
    assert shown_args(node) == "('***', 'late')"
    assert node_secrets(node) == {"4111"}
    node = Node(task="tests.charge", args=[5], input=Input.PARENT)
    assert shown_args(node) == "(5,)"
    assert node_secrets(node) == set()
    node = Node(task="tests.charge", args=[5], input=Input.FAILURE)
    assert shown_args(node) == "('***',)"  # three come before it


@pytest.mark.parametrize(
    ("task", "items", "shown"),
    [
        (STARMAP, [["4111", 5], ["4222", 6, {"pin": 1}]], [["***", 5], ["***", 6, "***"]]),
        (STARMAP, ["4111"], [["***"]]),
        (MAP, ["4111", "4222"], ["***", "***"]),
    ],
)
def test_what_is_mapped_over_a_task_is_hidden_as_its_arguments_are(task, items, shown):
    node = Node(task=task, kwargs={"task": "tests.charge", "it": items})
    assert shown_kwargs(node) == repr({"task": "tests.charge", "it": shown})
    assert "4111" in node_secrets(node)


def test_nothing_is_hidden_unless_it_is_named(settings):
    settings.BACKBEAT = {}
    assert redact({"card": 1}) == {"card": 1}
    assert redact_args("tests.charge", ["4111"]) == ["4111"]
    assert secrets_of("tests.charge", ["4111"], {"pin": 1}) == set()


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ("4111-1111", "4111-1111"),
        (41111111, 41111111),
        ({"holder": {"number": "4111-1111"}}, "4111-1111"),
        ({"4111-1111": 1}, "4111-1111"),
        (["4222-2222", "4111-1111"], "4111-1111"),
        ("it's\nhers", "it's\nhers"),
        ("0x", "0x"),
    ],
)
@pytest.mark.parametrize("text", ["no {} for 5 EUR", "no '{}' for \"5 EUR\""])
@pytest.mark.parametrize("by_name", [True, False])
def test_secrets_in_an_error_are_hidden(card, said, text, by_name):
    error = repr(ValueError(text.format(said)))
    args, kwargs = ([], {"card": card, "amount": 5}) if by_name else ([card, 5], {})
    shown = scrub(error, secrets_of("tests.charge", args, kwargs), "***")
    expected = repr(ValueError(text.format("***")))
    # Which of the quotes repr() takes depends on the text.
    quotes = str.maketrans("", "", "\"'\\")
    assert shown.translate(quotes) == expected.translate(quotes)


def test_short_secrets_hide_no_parts_of_words():
    assert scrub("pin 12 of 3121 at 12:00", {"12"}) == "pin ••• of 3121 at •••:00"


@pytest.mark.parametrize("nothing", [None, "", True, [], {}])
def test_an_argument_without_a_value_hides_nothing(nothing):
    text = "ValueError('True')"
    assert scrub(text, secrets_of("tests.charge", [], {"card": nothing})) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("declined: 4111-SECR…", "declined: •••…"),
        ("…SECRET was declined, and 4111-…", "…••• was declined, and •••…"),
        ("'41…' is no number: 4111-SECRET", "'•••…' is no number: •••"),
        ("4… and …T are one character", "4… and …T are one character"),
        ("nothing of it…", "nothing of it…"),
    ],
)
def test_what_a_cut_leaves_of_a_secret_is_hidden(text, shown):
    assert scrub(text, {"4111-SECRET"}) == shown


def test_a_tree_as_data_hides_what_is_quoted_at_any_depth(db):
    node = signal(
        workflows.done.s(card="4111-1111"),
        subject="order",
        metadata={"about": ["paid with 4111-1111", 7], "by": {"note": "4111-1111"}},
    )

    metadata = node.tree().as_dict()["metadata"]

    assert metadata == {"about": ["paid with ***", 7], "by": {"note": "***"}}

"""Arguments and results as JSON: what survives the way to the database and back."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from uuid import UUID

import pytest

from backbeat_celery import current_node, signal, signal_many
from backbeat_celery.exceptions import BadPayload
from backbeat_celery.inputs import payload
from backbeat_celery.inputs.redaction import HIDDEN, redact
from backbeat_celery.models import Node, Workflow
from tests import workflows

VALUES = [
    None,
    True,
    0,
    -1.5,
    2**80,  # larger than any column
    "",
    "ä€📷",
    "a\x00b",
    "\ud800",
    [],
    {},
    [[1, [2, {"3": [None]}]]],
    datetime(2030, 2, 28, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2030, 2, 28, 23, 59),
    date(2030, 2, 28),
    time(12, 30),
    UUID("01890000-0000-7000-8000-000000000000"),
    Decimal("0.10"),
    Decimal("12345678901234567890.123456789"),
    b"bytes\xff",
    {"nested": [date(2030, 2, 28), Decimal("1.50")]},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_the_value_survives(value):
    back = payload.decode(payload.encode(value))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_the_value_survives_the_database(sim, value):
    node = signal(workflows.done.s(value), subject="camera")
    sim.run()
    node = Node.objects.get(pk=node.pk)
    assert node.args == [value]
    assert node.result == value
    assert sim.calls[0].args == [value]


def test_a_tuple_comes_back_as_a_list():
    assert payload.decode(payload.encode((1, 2))) == [1, 2]


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1},
        float("nan"),
        float("-inf"),
        lambda: 1,
        {(1, 2): 3},
        Exception("x"),
        1j,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_carry_is_named(value):
    with pytest.raises(BadPayload, match="the parcel cannot be stored"):
        payload.encode(value, "the parcel")


def test_a_circle_is_refused():
    circle: list = []
    circle.append(circle)
    with pytest.raises(BadPayload):
        payload.encode(circle)


def test_depth_without_end_is_refused():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(BadPayload):
        payload.encode(deep)


def nested(levels):
    value = 703
    for _ in range(levels):
        value = [value] if levels % 2 else {"a": value}
    return value


def test_a_value_is_nested_200_levels_deep_at_most():
    assert payload.decode(payload.encode(nested(200))) == nested(200)
    for levels in (201, 450, 900):
        with pytest.raises(BadPayload, match="the parcel is nested more than 200 levels deep"):
            payload.encode(nested(levels), "the parcel")
    assert payload.encode("[" * 5000)


@pytest.mark.parametrize("levels", [150, 199])
def test_a_deep_value_is_shown_with_its_secrets_hidden(sim, script, settings, levels):
    settings.BACKBEAT = {"REDACT": ["card"]}
    value = {"card": 4111, "deep": nested(levels)}
    script(lambda task: value)
    node = signal(workflows.scripted.s(), subject="camera")
    sim.run()
    node.refresh_from_db()
    assert redact(node.result) == {**value, "card": HIDDEN}


def test_an_argument_that_is_nested_too_deep_is_refused(sim, settings):
    settings.BACKBEAT = {"REDACT": ["card"]}
    with pytest.raises(BadPayload, match="nested more than 200 levels"):
        signal(workflows.done.s(nested(600)), subject="camera")
    assert not Node.objects.exists()


def test_a_result_that_is_nested_too_deep_is_not_kept(sim, script, settings):
    settings.BACKBEAT = {"REDACT": ["card"]}
    script(lambda task: nested(600))
    node = signal(workflows.scripted.s(), subject="camera")
    sim.run()
    node.refresh_from_db()
    assert (node.status, node.result) == ("complete", None)
    assert "nested more than 200 levels" in node.attempts[0].error


@pytest.mark.parametrize(("length", "fits"), [(98, True), (99, False)])
def test_the_limit_is_counted_in_bytes_of_json(settings, length, fits):
    settings.BACKBEAT = {"MAX_PAYLOAD": 100}
    if fits:
        assert len(payload.encode("x" * length)) == 100
    else:
        with pytest.raises(BadPayload, match="101 bytes"):
            payload.encode("x" * length)


@pytest.mark.parametrize("text", ["😀", "é", "a", "\\"])
def test_the_limit_counts_utf8_whatever_json_escapes(settings, text):
    settings.BACKBEAT = {"MAX_PAYLOAD": 400}
    fits = 398 // len(text.replace("\\", "\\\\").encode())
    payload.encode(text * fits)
    with pytest.raises(BadPayload, match=r"takes 40[1-4] bytes"):
        payload.encode(text * (fits + 1))


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": {"b": [1, None, True, 1.5, "ä"]}},
        {"path": "C:\\u0000"},  # a backslash and five letters, no NUL
        {"deep": [[[[[[[[1]]]]]]]]},
        {"long": 2**70},
    ],
    ids=["plain", "backslash", "deep", "long"],
)
def test_metadata_survives_the_database(sim, metadata):
    node = signal(workflows.done.s(), subject="camera", metadata=metadata)
    assert Node.objects.get(pk=node.pk).metadata == metadata


MANY = {
    "floats": [1e16, -1e22, 1e300, 1.5, 0.1, 1e-7, 2.0],
    "whole": [10**16, 2**70, 7],
    "when": datetime(2030, 1, 1, 12, tzinfo=UTC),
    "day": date(2030, 1, 1),
    "id": UUID("0192f7a0-0000-7000-8000-000000000000"),
    "price": Decimal("9.90"),
    "text": "1e+16",
}


def test_metadata_comes_back_as_it_was_by_every_door(sim, monkeypatch):
    def work(task):
        node = current_node()
        node.spawn(workflows.done.s(), metadata=MANY)
        node.spawn_many([workflows.done.s()] * 3, metadata=MANY, mode="non_blocking")
        seen.append(node.metadata)

    seen = []
    monkeypatch.setitem(workflows.scripts, "main", work)
    signal(workflows.scripted, subject="camera", metadata=MANY)
    signal_many([(workflows.done, {"subject": f"{n}", "metadata": MANY}) for n in range(3)])
    sim.run()
    workflow = Workflow.objects.first()
    workflow.metadata = MANY
    workflow.save()
    nodes = Node.objects.exclude(parent=None)
    read = [*seen, *(node.metadata for node in nodes)]
    read.append(Workflow.objects.get(pk=workflow.pk).metadata)
    assert len(read) == 1 + 8 + 1
    for metadata in read:
        assert metadata == MANY
        assert repr(metadata["floats"]) == repr(MANY["floats"])
        assert {name: type(value) for name, value in metadata.items()} == {
            name: type(value) for name, value in MANY.items()
        }


def test_metadata_is_still_searched_by_the_database(sim):
    signal(workflows.done, subject="camera", metadata={"order": 7, "weight": 1e16})
    found = Node.objects.filter(metadata__order=7, metadata__weight=1e16)
    assert found.count() == 1


@pytest.mark.parametrize("depth", [31, 40, 500])
def test_metadata_too_deep_for_a_database_is_refused_clearly(sim, depth):
    """MariaDB holds 32 levels of JSON."""
    deep: dict = {}
    for _ in range(depth):
        deep = {"a": deep}
    try:
        node = signal(workflows.done.s(), subject="camera", metadata=deep)
    except BadPayload:
        assert not Node.objects.exists()
    else:
        assert Node.objects.get(pk=node.pk).metadata == deep


def test_kombus_own_mark_in_somebodys_data_is_refused_before_it_is_stored(sim):
    mark = {"__type__": "nobody knows", "__value__": 1}
    with pytest.raises(BadPayload):
        signal(workflows.done.s({"from a webhook": mark}), subject="camera")
    assert not Node.objects.exists()

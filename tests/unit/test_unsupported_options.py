"""Each refusal names a heading of the page for those who come from Celery."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery, Task, shared_task, signature
from kombu import Producer

import backbeat_celery
from backbeat_celery.exceptions import MOVING, UnsupportedOption, see
from backbeat_celery.inputs.canvas import task_spec
from backbeat_celery.inputs.node_spec import MESSAGE_OPTIONS
from backbeat_celery.inputs.unsupported_options import REASONS, refusals

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / MOVING).read_text()
OURS = Path(backbeat_celery.__file__).parent
POINTER = re.compile(rf"See {re.escape(MOVING)}#([\w-]+)\.")


def slug(heading: str) -> str:
    """The anchor that MyST and GitHub make of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


HEADINGS = [slug(text) for text in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)]


@shared_task
def plain(number: int = 0) -> None: ...


def anchors(message: str) -> list[str]:
    return POINTER.findall(message)


def raised() -> Iterator[tuple[Path, ast.Call]]:
    """Every place of the package that makes an UnsupportedOption."""
    for path in sorted(OURS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "UnsupportedOption":
                yield path, node


def test_each_place_that_refuses_names_a_heading():
    """A place takes an anchor from the code, or one sentence for each option from `refusals`."""
    places = list(raised())
    assert len(places) > 10
    for path, call in places:
        given = [word.value for word in call.keywords if word.arg == "anchor"]
        where = f"{path.name}:{call.lineno}"
        if not given:
            assert "refusals(" in ast.unparse(call), where
        elif isinstance(given[0], ast.Constant):
            assert given[0].value in HEADINGS, where
        else:
            assert ast.unparse(call).endswith("anchor=exc.anchor)"), where


def test_headings_are_unique():
    assert len(HEADINGS) == len(set(HEADINGS))


@pytest.mark.parametrize("name", [*REASONS, "cluster", "quue"])
def test_the_sentence_of_an_option_names_a_heading(name: str):
    (told,) = refusals("shop.pay", [name], MESSAGE_OPTIONS)
    (anchor,) = anchors(told)
    assert told.endswith(see(anchor))
    assert anchor in HEADINGS


def test_each_sentence_has_a_pointer_of_its_own():
    options = {"expiration": 60, "producer": 7, "no_such_option": 1}
    with pytest.raises(UnsupportedOption) as caught:
        task_spec(plain.s().set(**options))
    assert anchors(str(caught.value)) == ["expiry", "unknown-options", "connections"]


@pytest.mark.parametrize(
    ("canvas", "anchor"),
    [
        (signature("celery.accumulate"), "canvas"),
        (plain.s().set(serializer="pickle"), "message-options"),
        (plain.s().set(shadow="\x00"), "message-options"),
        (plain.s().set(headers={"id": 1}), "headers"),
        (plain.s().set(headers=[1]), "headers"),
    ],
)
def test_a_refused_signature_names_its_heading(canvas, anchor: str):
    with pytest.raises(UnsupportedOption) as caught:
        task_spec(canvas)
    assert anchors(str(caught.value)) == [anchor]
    assert caught.value.anchor == anchor
    assert anchor in HEADINGS


def table(heading: str) -> set[str]:
    """The names in the first column of the table below a heading."""
    part = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    firsts = re.findall(r"^\| (.+?) \|", part, re.MULTILINE)
    return {name for first in firsts for name in re.findall(r"`(\w+)", first)}


INNER = {"self", "options", "properties"}
NO_OPTIONS = (property, classmethod)


@pytest.mark.parametrize("call", [Task.apply_async, Celery.send_task, Producer.publish])
def test_the_page_has_every_option_of_a_call(call):
    names = set(inspect.signature(call).parameters) - INNER
    assert names - table("Every option of `apply_async`") == set()


def test_the_page_has_every_option_that_is_known_here():
    assert {*REASONS, *MESSAGE_OPTIONS} - table("Every option of `apply_async`") == set()


def test_the_page_has_every_option_of_a_task():
    attributes = {
        name
        for name, value in vars(Task).items()
        if not name.startswith("_") and not callable(value) and not isinstance(value, NO_OPTIONS)
    }
    made = set(inspect.signature(Celery._task_from_fun).parameters) - INNER - {"fun"}
    expected = {*attributes, *made} - {"from_config"}
    assert expected - table("Every option of a task") == set()

"""The runner finds what is wrong in a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import Page
from tests.docs.test_pages import PageError, run_page

pytestmark = pytest.mark.django_db


def page(folder: Path, text: str) -> Page:
    path = folder / "page.md"
    path.write_text(text)
    return Page(path)


def fenced(language: str, source: str) -> str:
    return f"```{language}\n{source}\n```\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (fenced("python", "signal(nothing.s(), subject='x')"), "nothing"),
        (fenced("python", ">>> 1 + 1\n3"), "Expected"),
        (fenced("python", "def test_it(backbeat):\n    assert backbeat.calls"), "Assertion"),
        (
            fenced(
                "python", "import unittest\nclass T(unittest.TestCase):\n  def test(self): 1 / 0"
            ),
            "ZeroDivisionError",
        ),
        (fenced("python", "BACKBEAT = {'LEESE': 3}"), "LEESE"),
        (fenced("python", "CELERY_BROKER_ADDRESS = ''"), "CELERY_BROKER_ADDRESS"),
        ("<!-- in a handler -->\n" + fenced("python", "current_node().spam()"), "spam"),
        ("<!-- equals: 1 + 1 -->\n" + fenced("text", "3"), "2"),
        (fenced("sh", "manage.py backbeat_wish"), "backbeat_wish"),
        (fenced("sh", "python manage.py backbeat_tree --nme x"), "--nme"),
        (fenced("sh", "celery -A mysite worker --pol solo"), "--pol"),
        (fenced("sh", "tox run -e marble"), "marble"),
        (fenced("sh", "pip install 'backbeat-celery[marble]'"), "marble"),
        (fenced("sh", "pytest tests/marble/test_x.py"), "marble"),
        (fenced("sh", "python -m tests.chaos --colour red"), "--colour"),
        (fenced("sh", "python -m tests.chaos --profile marble"), "--profile marble"),
        (fenced("sh", "true && rm -rf marble"), "true"),
        (fenced("json", "{'a': 1}"), "Expecting property name"),
        (fenced("toml", "a = "), "Invalid value"),
        (fenced("yaml", "a: [1"), "expected"),
        (fenced("ini", "a = 1"), "no section headers"),
        (fenced("", "x"), "language ''"),
    ],
)
def test_a_fault_is_told_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(PageError, match=f"(?s)page.md:[34].*{re.escape(complaint)}"):
        run_page(page(tmp_path, "# A page\n\n" + text))


def test_a_handler_that_is_wrong_is_told(tmp_path: Path) -> None:
    text = fenced("python", "@node_task\ndef f():\n    gone()\n\nsignal(f.s(), subject='x')")
    with pytest.raises(PageError, match=r"page.md: shop.tasks.f: NameError\(.*gone"):
        run_page(page(tmp_path, text))


def test_a_block_knows_what_the_ones_before_it_defined(tmp_path: Path) -> None:
    blocks = fenced("python", "x = 1") + "<!-- invisible-code-block: python\nx += 1\n-->\n"
    run_page(page(tmp_path, blocks + fenced("python", ">>> x\n2")))


def test_a_page_knows_nothing_of_another_one(tmp_path: Path) -> None:
    run_page(page(tmp_path, fenced("python", "@node_task\ndef once(): ...\nx = 1")))
    with pytest.raises(PageError, match="NameError"):
        run_page(page(tmp_path, fenced("python", "x")))
    with pytest.raises(PageError, match="NameError"):
        run_page(page(tmp_path, fenced("python", "once")))


def test_a_test_leaves_nothing_to_the_next_block(tmp_path: Path) -> None:
    test = "def test_it(backbeat):\n    Camera.objects.create(number=1)\n"
    after = "assert Camera.objects.count() == 2"
    run_page(page(tmp_path, fenced("python", test) + fenced("python", after)))


def test_markdown_in_a_block_is_text(tmp_path: Path) -> None:
    shown = "<!-- invisible-code-block: python\nspam()\n-->\n" + fenced("python", "spam()")
    assert len(page(tmp_path, f"````text\n{shown}````\n").blocks) == 1


def test_marks_are_read(tmp_path: Path) -> None:
    text = (
        "<!-- not run: it would end the machine -->\n" + fenced("sh", "halt") + fenced("sh", "x")
    )
    first, second = page(tmp_path, text).blocks
    assert (first.is_left_out, first.note) == (True, "it would end the machine")
    assert not second.is_left_out
    run_page(page(tmp_path, text.removesuffix(fenced("sh", "x"))))

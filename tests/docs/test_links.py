"""Links between the repository's own files lead to a file, and to a heading that it has."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, all_pages

LINK = re.compile(r"\]\((?!\w+:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
FENCED = re.compile(r"^([ ]*)(`{3,}).*?^\1\2`*$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
MENTION = re.compile(r"docs/[\w/-]+\.md(?:#[\w-]+)?")
PATHS = [page.path for page in all_pages()]


def prose(path: Path) -> str:
    return FENCED.sub("", path.read_text())


@cache
def anchors(path: Path) -> set[str]:
    """The anchors that GitHub and the site give to headings."""
    found: set[str] = set()
    for heading in HEADING.findall(prose(path)):
        words = re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).replace(" ", "-")
        found.add(next(a for n in range(99) if (a := f"{words}-{n}" if n else words) not in found))
    return found


def problem(source: Path, path: str, anchor: str | None) -> str:
    target = (source.parent / path).resolve() if path else source
    if not target.exists():
        return f"{path} is not there"
    if anchor and target.suffix == ".md" and anchor not in anchors(target):
        return f"{path}#{anchor} is no heading"
    return ""


@pytest.mark.parametrize("source", PATHS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_page(source: Path) -> None:
    links = [(m["path"], m["anchor"]) for m in LINK.finditer(prose(source))]
    assert [p for path, anchor in links if (p := problem(source, path, anchor))] == []


def test_pages_that_the_code_names() -> None:
    sources = [*ROOT.glob("backbeat_celery/**/*.py"), *ROOT.glob("tests/**/*.py")]
    found = {mention for path in sources for mention in MENTION.findall(path.read_text())}
    assert {"docs/operating.md", "docs/production.md"} <= found
    wrong = {m for m in found if problem(ROOT / "x", *(*m.split("#"), None)[:2])}
    assert wrong == set()


def test_a_wrong_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `heading`, twice\n\n## A heading, twice\n\n[x](page.md#a-heading-once)\n")
    assert anchors(page) == {"a-heading-twice", "a-heading-twice-1"}
    assert problem(page, "page.md", "a-heading-twice-1") == ""
    assert problem(page, "", "a-heading-once") == "#a-heading-once is no heading"
    assert problem(page, "other.md", None) == "other.md is not there"

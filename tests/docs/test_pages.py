"""Each page's code blocks do what the page says: see `pages.py` for the marks."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.docs import data, python, shell
from tests.docs.pages import ROOT, Block, Page, all_pages
from tests.docs.project_module import page_module

PAGES = [page for page in all_pages() if page.blocks]
READERS = {
    "sh": shell.run,
    "ini": data.read_ini,
    "json": data.read_json,
    "toml": data.read_toml,
    "yaml": data.read_yaml,
    "sql": data.run_sql,
}
MOST_LEFT_OUT = 0.1
"""The part of all blocks that may be marked as not run."""


class PageError(AssertionError):
    """What is wrong in a page, and where."""


def run_block(block: Block, module: ModuleType) -> None:
    if block.mark == "equals":
        python.check_text(block, module)
    elif block.is_left_out or not block.is_code:
        return
    elif block.language == "python":
        python.run(block, module)
    else:
        assert block.language in READERS, f"no reader for the language {block.language!r}"
        READERS[block.language](block.source)


def run_page(page: Page) -> None:
    with page_module() as module:
        for block in page.blocks:
            try:
                run_block(block, module)
            except (Exception, SystemExit) as error:
                raise PageError(f"{block}: {error!r} {error}") from error
        vars(module)["sim"].run()
        if mistakes := python.mistakes():
            raise PageError(f"{page.path}: {', '.join(mistakes)}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.path.relative_to(ROOT)))
def test_code_blocks(page: Page, db: None) -> None:
    run_page(page)


def test_what_is_not_run_has_a_reason() -> None:
    left_out = [block for page in PAGES for block in page.blocks if block.is_left_out]
    assert [str(block) for block in left_out if not block.note] == []


def test_few_blocks_are_not_run() -> None:
    blocks = [block for page in PAGES for block in page.blocks if block.is_code]
    assert len(blocks) > 50
    assert sum(block.is_left_out for block in blocks) < MOST_LEFT_OUT * len(blocks)

"""Say at the end of a run how many blocks there are, and which of them are not run."""

from __future__ import annotations

import pytest

from tests.docs.pages import ROOT, all_pages


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    blocks = [block for page in all_pages() for block in page.blocks if block.is_code]
    left_out = [block for block in blocks if block.is_left_out]
    terminalreporter.write_line(f"code blocks: {len(blocks)}, not run: {len(left_out)}")
    for block in left_out:
        where = f"{block.page.relative_to(ROOT)}:{block.line}"
        terminalreporter.write_line(f"  {where}: {block.note}")

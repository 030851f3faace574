"""Find the code blocks of a page, and what is said about them in invisible comments.

<!-- not run: why -->                     the next block is not run
<!-- equals: an expression -->            the next block is the text of this expression
<!-- in a handler -->                     the next block is the body of a handler, and is run
<!-- invisible-code-block: python         code that readers need not see
node = signal(ship.s(703), subject="x")
-->
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sybil import Document, Region
from sybil.parsers.markdown.lexers import (
    DirectiveInHTMLCommentLexer,
    RawFencedCodeBlockLexer,
)

ROOT = Path(__file__).parents[2]
MARK = re.compile(
    r"<!--\s*(?P<name>not run|equals|in a handler)\b:?(?P<text>(?:(?!-->).)*)-->\s*\Z", re.DOTALL
)
INERT = {"text"}
"""Languages of blocks that no program reads."""


@dataclass(frozen=True)
class Block:
    """A code block of a page; `language` is "" if its fence names none."""

    page: Path
    line: int
    language: str
    source: str
    mark: str = ""
    note: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_left_out(self) -> bool:
        return self.mark == "not run"

    @property
    def is_code(self) -> bool:
        """Whether this is for a program to read, and no directive of Sphinx's."""
        return self.language not in INERT and not self.language.startswith("{")


@dataclass(frozen=True)
class Page:
    path: Path

    @cached_property
    def blocks(self) -> list[Block]:
        """All blocks in order, those in comments included."""
        document = Document.parse(str(self.path), self._regions)
        return [Block(self.path, example.line, **example.region.lexemes) for example in document]

    def _regions(self, document: Document) -> Iterator[Region]:
        """Give the blocks; what a block shows of Markdown is text."""
        found = list(self._fences_and_comments(document))
        for region in found:
            if not any(o.start < region.start and region.end < o.end for o in found):
                yield region

    def _fences_and_comments(self, document: Document) -> Iterator[Region]:
        for region in RawFencedCodeBlockLexer(re.compile(r"[ ]*(?P<language>.*)$\n", re.M))(
            document
        ):
            before = MARK.search(document.text, 0, region.start)
            marks = {"mark": before["name"], "note": before["text"].strip()} if before else {}
            yield Region(region.start, region.end, lexemes={**region.lexemes, **marks})
        for region in DirectiveInHTMLCommentLexer("invisible-code-block")(document):
            names = {"language": region.lexemes["arguments"], "source": region.lexemes["source"]}
            yield Region(region.start, region.end, lexemes=names)


def all_pages() -> list[Page]:
    paths = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    return [Page(path) for path in sorted(paths) if "_build" not in path.parts]

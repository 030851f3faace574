"""What the checks of the auditor give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["lost", "doubled", "stuck", "broken"]


@dataclass(frozen=True)
class Violation:
    """One thing that must not be, and the node it is about."""

    kind: Kind
    node: str
    text: str


Found = Iterator[Violation]


def name_of(node: Any) -> str:
    """A node as a violation calls it."""
    return f"{node.metadata.get('label', node.name)} ({node.status}, {node.mode})"

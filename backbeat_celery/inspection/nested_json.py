"""Write deeply nested data as JSON without recursion, which Python's encoder uses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

INDENT = "  "
DEEPEST_INDENT = 40
"""Levels that are indented. With more, the text of a deep tree would be mostly spaces."""

Member = tuple[str, Any]


def nested_json(data: Any) -> str:
    """Give data made of dicts and lists as JSON, as `json.dumps(data, indent=2)` does."""
    return "".join(_pieces(data))


def _pieces(data: Any) -> Iterator[str]:
    """Give the parts of the text, with a stack of open containers and their remaining members."""
    is_first = True
    opened: list[tuple[Iterator[Member], str]] = [(iter([("", data)]), "")]
    while opened:
        members, end = opened[-1]
        member = next(members, None)
        level = len(opened) - 1
        if member is None:
            opened.pop()
            yield _line(level - 1) + end if end else ""
            is_first = False
            continue
        name, value = member
        if level:
            yield ("" if is_first else ",") + _line(level)
        yield name
        if isinstance(value, dict | list) and value:
            yield "{" if isinstance(value, dict) else "["
            opened.append((_members(value), "}" if isinstance(value, dict) else "]"))
            is_first = True
        else:
            yield json.dumps(value, ensure_ascii=False)
            is_first = False


def _line(level: int) -> str:
    return "\n" + INDENT * min(level, DEEPEST_INDENT)


def _members(value: dict[str, Any] | list[Any]) -> Iterator[Member]:
    if isinstance(value, dict):
        return ((f"{json.dumps(key, ensure_ascii=False)}: ", item) for key, item in value.items())
    return (("", item) for item in value)

"""Arguments, results and metadata as text: indented, and cut if they are long."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from kombu.utils import json as kombu_json

from backbeat_celery.inputs.redaction import redact
from backbeat_celery.runtime.text import shorten

LONG = 2000
"""Characters shown of a value on a page."""

SHORT = 60


@dataclass(frozen=True, slots=True)
class Value:
    """A value as a page shows it."""

    text: str
    is_cut: bool = False
    length: int = 0


def pretty(value: Any) -> str:
    """Format a value as indented JSON."""
    return json.dumps(
        json.loads(kombu_json.dumps(value)), indent=2, ensure_ascii=False, sort_keys=False
    )


def cut(text: str, *, whole: bool = False) -> Value:
    """Cut a text that is too long for a page, unless `whole`."""
    if whole or len(text) <= LONG:
        return Value(text, False, len(text))
    return Value(text[:LONG], True, len(text))


def shown(value: Any) -> str:
    """A value in one short line."""
    text = value if isinstance(value, str) else json.dumps(redact(value), ensure_ascii=False)
    return shorten(text, SHORT)

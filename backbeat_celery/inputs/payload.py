"""Arguments and results as JSON, encoded exactly as Celery would send them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from kombu.utils import json as kombu_json

from backbeat_celery.conf import settings
from backbeat_celery.exceptions import BadPayload

_EMPTY: dict[type, str] = {list: "[]", dict: "{}"}
"""Values that need no check: most nodes have no arguments, options or metadata."""

DEEPEST = 30
"""Levels of metadata; MariaDB reads 32 levels of JSON."""

DEEPEST_VALUE = 200
"""Levels of an argument or a result: code that shows, redacts or sends it recurses once for
each, and Python allows a thousand."""


def encode(value: Any, what: str = "value", spare: int = 0, hint: str = "") -> str:
    """Encode `value` as JSON text; dates, UUIDs and decimals survive the way back.

    Raises BadPayload, naming `what`, when JSON cannot carry it or it exceeds MAX_PAYLOAD.
    """
    if not value and type(value) in _EMPTY:
        return _EMPTY[type(value)]
    try:
        text: str = kombu_json.dumps(value, allow_nan=False)
        if '"__type__"' in text:
            decode(text)  # kombu's own mark in user data: the row could not be read again
    except Exception as exc:  # also what kombu's decoders raise
        raise BadPayload(
            f"{what} cannot be stored as JSON: {exc}. "
            + (
                hint
                or "Pass plain data, such as a primary key, and load the object in the handler."
            )
        ) from exc
    if text.count("[") + text.count("{") > DEEPEST_VALUE and _is_too_deep(value):
        raise BadPayload(f"{what} is nested more than {DEEPEST_VALUE} levels deep. {hint}".strip())
    limit = settings.max_payload + spare
    # Escapes make a text longer than what is meant by it, never shorter.
    if len(text) > limit and (taken := size(value)) > limit:
        raise BadPayload(
            f"{what} takes {taken} bytes as JSON, more than BACKBEAT['MAX_PAYLOAD'] = "
            f"{settings.max_payload}. " + (hint or "Store it elsewhere and pass a reference.")
        )
    return text


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST_VALUE):
        level = [item for holder in level for item in _items(holder)]
    return any(isinstance(item, (dict, list, tuple)) for item in level)


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()


def size(value: Any) -> int:
    """Bytes of a value as JSON in UTF-8."""
    text: str = kombu_json.dumps(value, allow_nan=False, ensure_ascii=False)
    return len(text.encode(errors="surrogatepass"))


def decode(text: str) -> Any:
    """Decode what `encode` made."""
    return kombu_json.loads(text)


def is_storable(text: str) -> bool:
    """Tell whether every supported database can hold this text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


def are_storable(value: Any) -> bool:
    """Tell whether every supported database can hold all text of a JSON value in a JSON column."""
    return all(map(is_storable, _texts(value)))


def json_text(value: Any) -> str:
    """Encode for a JSON column, so that dates, UUIDs, decimals and floats stay what they are.

    PostgreSQL reads 1e+16 as a whole number, and 10000000000000000.0 as what it is.
    """
    if value == {}:
        return "{}"
    text: str = kombu_json.dumps(value, allow_nan=False)
    return _Written(allow_nan=False).encode(value) if _EXPONENT.search(text) else text


def json_value(text: str) -> Any:
    """Decode what a JSON column has of `json_text`."""
    return decode(text) if '"__type__"' in text else json.loads(text)


_EXPONENT = re.compile(r"\de\+\d")


class _Written(kombu_json.JSONEncoder):
    """Writes floats without an exponent."""

    def iterencode(self, o: Any, _one_shot: bool = False) -> Iterator[str]:
        make: Any = json.encoder._make_iterencode  # type: ignore[attr-defined]
        quoted = json.encoder.encode_basestring_ascii
        written = make({}, self.default, quoted, None, _digits, ": ", ", ", False, False, True)
        chunks: Iterator[str] = written(o, 0)
        return chunks


def _digits(value: float) -> str:
    text = repr(value)
    return f"{value:.1f}" if "e+" in text else text


def check_metadata(metadata: dict[str, Any] | None) -> dict[str, Any]:
    """Give metadata that a JSON column of every supported database can hold."""
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise BadPayload(f"metadata is a dictionary, not {type(metadata).__name__}.")
    encode(metadata, "metadata")
    if not are_storable(metadata):
        raise BadPayload("metadata contains a NUL or a lone surrogate; no database stores it.")
    return metadata


def _texts(value: Any, depth: int = 1) -> Iterator[str]:
    """Every string in a JSON value that is not too deep."""
    if depth > DEEPEST:
        raise BadPayload(f"metadata is nested more than {DEEPEST} levels deep.")
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode(errors="replace")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield str(name)
            yield from _texts(item, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item, depth + 1)

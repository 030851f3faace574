"""Arguments and results as JSON, encoded exactly as Celery would send them."""

from __future__ import annotations

import json
from typing import Any

from kombu.utils import json as kombu_json

from backbeat_celery.conf import settings
from backbeat_celery.exceptions import BadPayload


def encode(value: Any, what: str = "value") -> str:
    """Encode `value` as JSON text; dates, UUIDs and decimals survive the way back.

    Raises BadPayload, naming `what`, when JSON cannot carry it or it exceeds MAX_PAYLOAD.
    """
    try:
        text: str = kombu_json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise BadPayload(
            f"{what} cannot be stored as JSON: {exc}. Pass plain data, such as a primary key, "
            "and load the object in the handler."
        ) from exc
    if len(text) > settings.max_payload:
        raise BadPayload(
            f"{what} takes {len(text)} bytes as JSON, more than BACKBEAT['MAX_PAYLOAD'] = "
            f"{settings.max_payload}. Store it elsewhere and pass a reference."
        )
    return text


def decode(text: str) -> Any:
    """Decode what `encode` made."""
    return kombu_json.loads(text)


def check_metadata(metadata: dict[str, Any] | None) -> dict[str, Any]:
    """Give metadata that a JSON column of every supported database can hold."""
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise BadPayload(f"metadata is a dictionary, not {type(metadata).__name__}.")
    try:
        text = json.dumps(metadata, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise BadPayload(f"metadata cannot be stored as JSON: {exc}.") from exc
    if len(text) > settings.max_payload:
        raise BadPayload(f"metadata takes {len(text)} bytes; the limit is {settings.max_payload}.")
    if "\\u0000" in text:
        raise BadPayload("metadata contains a NUL character, which databases do not store.")
    return metadata

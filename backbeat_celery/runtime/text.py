"""Shorten texts for columns, pages and messages."""

from __future__ import annotations

ELLIPSIS = "…"
LONGEST_QUOTE = 200


def shorten(text: str, length: int, ellipsis: str = ELLIPSIS) -> str:
    """Cut a text to at most `length` characters, the ellipsis included."""
    return text if len(text) <= length else text[: length - len(ellipsis)] + ellipsis


def shorten_start(text: str, length: int) -> str:
    """Cut a text at its start: a traceback ends with the error."""
    return text if len(text) <= length else ELLIPSIS + text[len(ELLIPSIS) - length :]


def one_line(text: str, length: int) -> str:
    """Put a text on one line of at most `length` characters."""
    return shorten(" ".join(text.split()), length)


def quote(value: object) -> str:
    """Give the repr of a value for an error message: short, and also if its repr raises."""
    try:
        text = repr(value)
    except Exception:
        return f"<{type(value).__name__} without a repr>"
    return shorten(text, LONGEST_QUOTE)

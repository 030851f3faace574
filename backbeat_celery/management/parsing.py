"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError, CommandParser
from django.db import connections

from backbeat_celery.models import node_alias


def add_database(parser: CommandParser) -> None:
    """Add the option `--database`."""
    parser.add_argument("--database", metavar="ALIAS", help="default: where the router puts nodes")


def database(options: dict[str, Any]) -> str:
    """Give the database alias, or raise CommandError."""
    alias: str = options["database"] or node_alias()
    if alias not in connections:
        raise CommandError(f"DATABASES has no {alias!r}; it has {', '.join(connections)}.")
    return alias


def at_least(minimum: float, kind: Callable[[str], Any] = int) -> Callable[[str], Any]:
    """Give a type for a numeric option with a minimum."""

    def number(text: str) -> Any:
        value = kind(text)
        if not minimum <= value < float("inf"):
            raise ValueError(text)
        return value

    number.__name__ = f"number of at least {minimum:g},"
    return number


def node_id(text: str) -> UUID:
    """Parse the id of a node or a workflow, or raise CommandError."""
    try:
        return UUID(text)
    except ValueError:
        raise CommandError(
            f"{text!r} is not the id of a workflow or a node; --subject and --name find workflows."
        ) from None

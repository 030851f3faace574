"""A statement's text, for libpq and for a cursor, by the database's clock or the Simulation's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from backbeat_celery.models import Attempt, Link, Node, Transition, Workflow
from backbeat_celery.runtime import clock
from backbeat_celery.states import Mode, Outcome, Status, is_allowed

Row = Sequence[str | None]
"""A row as PostgreSQL's texts."""

_PARAMETER = re.compile(r"\$(\d+)")

_WORDS = {
    **{f"{model.__name__.lower()}s": f'"{model._meta.db_table}"' for model in (Attempt, Link)},
    **{f"{model.__name__.lower()}s": f'"{model._meta.db_table}"' for model in (Node, Transition)},
    "workflows": f'"{Workflow._meta.db_table}"',
    **{status.value: f"'{status.value}'" for status in (*Status, *Outcome, *Mode)},
}


def array(items: Iterable[object]) -> str:
    """Ids as the text of an array."""
    return "{" + ",".join(map(str, items)) + "}"


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]


class Statement:
    """SQL with `$1`-parameters, and in braces: tables, words of the state machine and `now`.

    `steps` are the changes of status that it makes. They are held to the table of transitions
    here, since the one writer of statuses is not asked. `reaches` are the points that the
    engine has reached when it has given rows.
    """

    def __init__(
        self,
        name: str,
        template: str,
        *,
        steps: Iterable[tuple[Status, Status]] = (),
        reaches: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.steps = tuple(steps)
        self.reaches = reaches
        for before, after in self.steps:
            assert is_allowed(before, after)
        self._template = template.strip()
        self.reads_time = "{now}" in template

    def call(self, *values: str | None) -> Call:
        """The statement with its parameters, as texts."""
        if self.reads_time and clock.is_simulated():
            values = (*values, clock.simulated_now().isoformat())
        return Call(self, values)

    @cached_property
    def _real(self) -> str:
        # Not now(): that stands still in a transaction.
        return self._template.format(now="statement_timestamp()", **_WORDS)

    @cached_property
    def _simulated(self) -> str:
        last = max(map(int, _PARAMETER.findall(self._template)), default=0) + 1
        return self._template.format(now=f"${last}::timestamptz", **_WORDS)

    @cached_property
    def _bytes(self) -> bytes:
        return self._real.encode()

    @cached_property
    def _texts(self) -> tuple[str, str]:
        return _PARAMETER.sub("%s", self._real), _PARAMETER.sub("%s", self._simulated)

    @cached_property
    def _orders(self) -> tuple[list[int], list[int]]:
        real, simulated = _PARAMETER.findall(self._real), _PARAMETER.findall(self._simulated)
        return [int(n) - 1 for n in real], [int(n) - 1 for n in simulated]

    def sql(self) -> bytes:
        """The text for libpq."""
        return self._simulated.encode() if clock.is_simulated() else self._bytes

    @cached_property
    def _names(self) -> tuple[bytes, bytes]:
        real, simulated = map(_digest, (self._real, self._simulated))
        return (
            f"backbeat_{self.name}_{real}".encode(),
            f"backbeat_{self.name}_{simulated}".encode(),
        )

    def prepared_name(self) -> bytes:
        """The name under which a server keeps it: another text has another name.

        Behind a pooler a connection may be given a server on which another release has prepared.
        """
        return self._names[clock.is_simulated()]

    def text(self) -> str:
        """The text for a cursor."""
        return self._texts[clock.is_simulated()]

    def order(self) -> list[int]:
        """The positions of the parameters in that text."""
        return self._orders[clock.is_simulated()]


@dataclass(frozen=True, slots=True)
class Call:
    """A statement with its parameters."""

    statement: Statement
    values: tuple[str | None, ...]

    def encoded(self) -> list[bytes | None]:
        """The parameters for libpq."""
        return [None if value is None else value.encode() for value in self.values]

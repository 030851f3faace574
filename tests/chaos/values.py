"""Values that people, forms and attackers hand in: from the usual to the absurd."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

TEXTS = [
    *(
        "",
        " ",
        "a",
        "0",
        "None",
        "null",
        "true",
        "ä€😀",
        "a\x00b",
        "\x00",
        "\ud800",
        "\n\r",
        "%s%n",
    ),
    *("'; DROP TABLE backbeat_celery_node; --", "<script>alert(1)</script>", "../../etc/passwd"),
    *("x" * 255, "x" * 256, "x" * 70_000, "é" * 200, "\u202egnp.exe", "{}", "[]", "{{ x }}"),
    *("blocking", "non_blocking", "complete", "running", "canceled", "chaos.work", "celery.ping"),
]
NUMBERS = [
    *(0, 1, -1, 2**31, 2**63, -(2**63), 10**400, 0.0, -0.5, 1e308, float("nan"), float("inf")),
    *(float("-inf"), True, False, Decimal("1.5"), Decimal("NaN"), 3 + 4j, 1e-300, 10**9, 86400.5),
]
TIMES = [
    *(datetime.min, datetime.max, datetime(2030, 1, 1), datetime(1, 1, 1, tzinfo=UTC)),
    *(datetime.max.replace(tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC), date(2030, 1, 1)),
    *(datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=23, minutes=59))), timedelta(days=9)),
    *(timedelta.max, timedelta(seconds=-1)),
]


class Nasty:
    """An object whose every method is a trap."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __str__(self) -> str:
        raise RuntimeError("no str")

    def __bool__(self) -> bool:
        raise RuntimeError("no truth")

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no equality")


def value(rng: random.Random, depth: int = 0) -> Any:
    """Any value at all."""
    makers: list[Callable[[], Any]] = [
        lambda: rng.choice(TEXTS),
        lambda: rng.choice(NUMBERS),
        lambda: rng.choice(TIMES),
        lambda: None,
        lambda: rng.randbytes(rng.choice([0, 1, 300])),
        lambda: UUID(int=rng.getrandbits(128)),
        lambda: "".join(rng.choices(string.printable, k=rng.randint(0, 30))),
        lambda: rng.choice([object(), Nasty(), Nasty, len, lambda: 1, Ellipsis, NotImplemented]),
        lambda: rng.choice([set(), frozenset({1}), range(3), iter([]), memoryview(b"x")]),
    ]
    if depth < 3:
        makers += [
            lambda: [value(rng, depth + 1) for _ in range(rng.randint(0, 4))],
            lambda: tuple(value(rng, depth + 1) for _ in range(rng.randint(0, 4))),
            lambda: {key(rng): value(rng, depth + 1) for _ in range(rng.randint(0, 4))},
            lambda: deep(rng.choice([10, 100, 5000])),
            circle,
        ]
    return rng.choice(makers)()


def key(rng: random.Random) -> Any:
    """A key of a dictionary, mostly text."""
    return rng.choice([*TEXTS, 1, None, (1, 2), 1.5])


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    found: Any = []
    for _ in range(levels):
        found = [found]
    return found


def circle() -> Any:
    """A list that contains itself."""
    found: list[Any] = []
    found.append(found)
    return found

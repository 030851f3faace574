"""The engine's operations fail now and then under the whole suite, as databases make them fail.

`BACKBEAT_TEST_FAULTS=seed:rate` turns it on: each transaction that the engine repeats by itself
fails at that rate, before it began, when it was to commit (and all of it is rolled back), or
after it: done, but the answer was lost. The last only where the engine promises to survive it.
Tests marked `exact`, which count statements or messages, are left alone.
"""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections, transaction

from backbeat_celery.engine.delivery import outbox
from backbeat_celery.runtime import transactions

VARIABLE = "BACKBEAT_TEST_FAULTS"
counts: Counter[str] = Counter()
"""How often which operation was struck in which way."""


class _RolledBack(Exception):
    pass


class Faults:
    """Draws whether an operation fails, and how."""

    def __init__(self, seed: str, rate: float) -> None:
        self.random = random.Random(seed)
        self.rate = rate
        self._repeat, self._repeat_on = transactions.repeat, transactions.repeat_on

    def repeat(
        self, work: Callable[[], Any], *, using: str, outage: bool = False, name: str = ""
    ) -> Any:
        """Stand in for the engine's `repeat`: what fails there is repeated there as well."""
        if _is_inside(using):
            return work()
        name = name or work.__qualname__.partition(".<locals>")[0]
        kinds = ["before", "rolled back", "answer lost"] if outage else ["before", "rolled back"]
        while self.random.random() < self.rate:
            kind = self.random.choice(kinds)
            counts[f"{name}: {kind}"] += 1
            if kind == "rolled back":
                _roll_back(work, using)
            elif kind == "answer lost":
                work()
        return self._repeat(work, using=using, outage=outage)

    def repeat_on(
        self, instance: Any, work: Callable[[Any], Any], *, using: str, outage: bool = False
    ) -> Any:
        """Stand in for `repeat_on`."""
        as_read = dict(vars(instance))

        def once() -> Any:
            vars(instance).update(as_read)
            return work(instance)

        name = work.__qualname__.removesuffix(".<locals>.<lambda>")
        return self.repeat(once, using=using, outage=outage, name=name)


def _is_inside(using: str) -> bool:
    """Whether somebody else's transaction is open; that of Django's test case does not count."""
    blocks = connections[using].atomic_blocks
    return bool(blocks) and not blocks[-1]._from_testcase


def _roll_back(work: Callable[[], Any], using: str) -> None:
    """Do all of an operation and undo it, with what it wanted to do after the commit."""
    waiting: list[Any] = getattr(outbox.outbox(), "_after_commit", [])
    before = len(waiting)
    try:
        with transaction.atomic(using=using):
            work()
            raise _RolledBack
    except _RolledBack:
        del waiting[before:]


@contextmanager
def inflicted(seed: str) -> Iterator[None]:
    """Let operations fail, if the environment says so."""
    if VARIABLE not in os.environ:
        yield
        return
    run, rate = os.environ[VARIABLE].split(":")
    faults = Faults(f"{run} {seed}", float(rate))
    replaced = [*_replace("repeat", faults.repeat), *_replace("repeat_on", faults.repeat_on)]
    try:
        yield
    finally:
        for module, name, original in replaced:
            setattr(module, name, original)


def _replace(name: str, substitute: Any) -> Iterator[tuple[Any, str, Any]]:
    """Put a function in place of the engine's, wherever a module has imported it."""
    original = getattr(transactions, name)
    for module in list(sys.modules.values()):
        if module.__name__.startswith("backbeat_celery.") and vars(module).get(name) is original:
            setattr(module, name, substitute)
            yield module, name, original


def summary() -> list[str]:
    """What was inflicted, for the end of the run."""
    return [f"{count:5} × {name}" for name, count in sorted(counts.items())]

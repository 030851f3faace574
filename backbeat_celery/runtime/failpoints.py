"""Failpoints: named places in the engine at which a test may stop it, race it or kill it.

In production `hit` calls an empty function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class WorkerDied(BaseException):
    """A test killed the worker at this failpoint: no engine code may run in it any more."""


def _ignore(name: str) -> None:
    pass


_observer: Callable[[str], None] = _ignore
_in_transactions = False


def hit(name: str) -> None:
    """Report to a watching test that the engine has reached this failpoint."""
    _observer(name)


def are_watched_in_transactions() -> bool:
    """Tell whether failpoints inside a transaction must be hit before its commit.

    A transaction that is sent to the database in one piece hits them only afterwards.
    """
    return _in_transactions


@contextmanager
def watched(observer: Callable[[str], None], *, in_transactions: bool = True) -> Iterator[None]:
    """Call `observer` with the name of each failpoint that is hit, in any thread.

    With `in_transactions`, transactions run statement by statement, so that the failpoints
    inside them are hit before the commit.
    """
    global _observer, _in_transactions
    previous = _observer, _in_transactions
    _observer, _in_transactions = observer, in_transactions
    try:
        yield
    finally:
        _observer, _in_transactions = previous

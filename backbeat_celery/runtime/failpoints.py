"""Named points of the engine at which a test may stop, race or kill it.

In production `reached` is one call of an empty function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class WorkerDied(BaseException):
    """A test killed this worker here: nothing of the engine may run in it any more."""


def _nothing(name: str) -> None:
    pass


_observer: Callable[[str], None] = _nothing
_is_inside = False


def reached(name: str) -> None:
    """Tell whoever watches that the engine is at this point."""
    _observer(name)


def are_watched_inside() -> bool:
    """Tell whether somebody is to be told of points within a transaction, before its commit.

    What is sent to the database in one piece passes such points only when it is done.
    """
    return _is_inside


@contextmanager
def watched(observer: Callable[[str], None], *, inside: bool = True) -> Iterator[None]:
    """Call `observer` with the name of each point reached, in any thread of this process.

    `inside`: transactions are made statement by statement, so that the points within them
    are reached there.
    """
    global _observer, _is_inside
    previous = _observer, _is_inside
    _observer, _is_inside = observer, inside
    try:
        yield
    finally:
        _observer, _is_inside = previous

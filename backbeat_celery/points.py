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


def reached(name: str) -> None:
    """Tell whoever watches that the engine is at this point."""
    _observer(name)


@contextmanager
def watched(observer: Callable[[str], None]) -> Iterator[None]:
    """Call `observer` with the name of each point reached, in any thread of this process."""
    global _observer
    previous, _observer = _observer, observer
    try:
        yield
    finally:
        _observer = previous

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.races.threads import Points, RecordingOutbox, engine
from tests.stateful import invariants


@pytest.fixture
def _engine(transactional_db: None) -> Iterator[Any]:
    with engine() as both:
        yield both
    faults = invariants.broken_now()
    assert not faults, faults


@pytest.fixture
def stops(_engine: Any) -> Points:
    """Stops for threads at points of the engine; at the end every invariant is checked."""
    return _engine[0]


@pytest.fixture
def outbox(_engine: Any) -> RecordingOutbox:
    """What would have been sent to the broker."""
    return _engine[1]

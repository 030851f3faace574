"""The pytest plugin with the fixture `backbeat`. It imports Django only when it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from backbeat_celery.testing.simulation import Simulation


@pytest.fixture
def backbeat(db: None) -> Iterator[Simulation]:
    """Give a Simulation for one test, with pytest-django's `db`."""
    from backbeat_celery.testing.simulation import Simulation

    with Simulation() as simulation:
        yield simulation

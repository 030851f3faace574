"""The pytest plugin: the `backbeat` fixture. Imports nothing of Django until it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from backbeat_celery.testing.simulation import Simulation


@pytest.fixture
def backbeat(db: None) -> Iterator[Simulation]:
    """A Simulation for the time of one test, with pytest-django's `db`."""
    from backbeat_celery.testing.simulation import Simulation

    with Simulation() as simulation:
        yield simulation

"""Three tenants and a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.neighbours.tenanted import celery_app
from tests.neighbours.tenanted.tenants.models import Client

TENANTS = ["acme", "globex", "initech"]


@pytest.fixture(scope="session", autouse=True)
def worker(database: None, run_worker: Callable[[str], Any]) -> Iterator[Callable[[], str]]:
    """A worker of the project."""
    for name in TENANTS:
        Client(schema_name=name, name=name).save(verbosity=0)
    with run_worker(celery_app.__name__) as log:
        yield log

"""Handlers that write into their tenant's schema."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from django.db import connection

from backbeat_celery import current_node, node_task, signal
from tests.neighbours.tenanted.shop.models import Note


@node_task(bind=True, max_retries=3, default_retry_delay=0.1, retry_jitter=False)
def write(self: Any, text: str, failures: int = 0) -> str:
    """Fail at first, then write; give the schema."""
    if current_node().attempt <= failures:
        raise RuntimeError("not yet")
    Note.objects.create(text=text)
    return str(connection.schema_name)


@node_task(bundle=10)
def write_short(text: str) -> str:
    """Write, in a bundle with those of other tenants."""
    return str(write.run(text))


@node_task(atomic=True)
def write_atomic(text: str) -> str:
    """Write in the transaction of the outcome."""
    return str(write.run(text))


@shared_task
def write_plain(text: str) -> str:
    """A task of the project, with the class that the app gives it."""
    Note.objects.create(text=text)
    return str(connection.schema_name)


@node_task
def order(text: str) -> str:
    """Have children, and a signal to another workflow, that run for the same tenant."""
    current_node().spawn(write.s(f"{text}, child"))
    current_node().spawn(write_plain.s(f"{text}, plain child"))
    signal(write.s(f"{text}, signal"), subject=f"of {text}")
    return str(connection.schema_name)

"""Handlers that real worker processes run. Each call leaves a line in a file.

The file is written apart from the database, so that it tells what really ran.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from celery import shared_task, signature
from django.db import connection

from backbeat_celery import NodeTask, current_node, node_task
from tests.real import faults

faults.install()


def write(**line: Any) -> None:
    """Append a line to the run's log, in one write."""
    path = os.environ.get("BACKBEAT_TEST_LOG")
    if not path:
        return
    text = json.dumps({"pid": os.getpid(), "at": time.time(), **line}) + "\n"
    with Path(path).open("a") as log:
        log.write(text)


def note(event: str, **more: Any) -> None:
    """Log an event of the running node."""
    node = current_node()
    write(event=event, name=node.name, node=str(node.id), attempt=node.attempt, **more)


@node_task
def step(label: str, seconds: float = 0) -> str:
    """Do something that takes a while."""
    note("start", label=label)
    time.sleep(seconds)
    note("end", label=label)
    return label


@node_task
def fan_out(width: int, seconds: float = 0) -> int:
    """Spawn `width` parallel children, then one that starts after all of them."""
    note("start", label="fan_out")
    current_node().spawn_many(
        [step.s(f"child {n}", seconds) for n in range(width)], mode="non_blocking"
    )
    current_node().spawn(step.s("after"), barrier=True)
    return width


@node_task(default_retry_delay=1, retry_jitter=False)
def purchase(camera: int) -> int:
    """Take the money; the card is declined the first time."""
    note("start", label="purchase")
    if current_node().attempt == 1:
        raise RuntimeError("card declined")
    current_node().spawn(successful_purchase.s(camera))
    return camera


@node_task
def successful_purchase(camera: int) -> None:
    note("start", label="successful purchase")
    current_node().spawn(step.s(f"notify customer {camera}"), mode="non_blocking")
    current_node().spawn(step.s(f"notify fulfillment {camera}"), mode="non_blocking")


@node_task
def chain(length: int) -> int:
    """Spawn blocking children, one after the other."""
    for n in range(length):
        current_node().spawn(step.s(f"link {n}"))
    return length


@node_task(max_retries=1, default_retry_delay=0, retry_backoff=False)
def killer(signal_number: int) -> None:
    """Kill the process that runs this, each time."""
    note("start", label="killer")
    os.kill(os.getpid(), signal_number)
    time.sleep(60)


@node_task(time_limit=1, max_retries=0)
def hard_limited() -> None:
    note("start", label="hard")
    time.sleep(60)


@node_task(soft_time_limit=1, max_retries=0)
def soft_limited() -> None:
    note("start", label="soft")
    time.sleep(60)


@node_task(max_retries=0)
def raising(what: str) -> None:
    """Raise something nasty."""
    note("start", label=what)
    raise {
        "SystemExit": SystemExit,
        "MemoryError": MemoryError,
        "GeneratorExit": GeneratorExit,
        "ValueError": ValueError,
    }[what](what)


@shared_task(base=NodeTask, bind=True)
def delivered(self: Any) -> dict[str, Any]:
    """Give back how the message came."""
    note("start", label="delivered")
    info = self.request.delivery_info
    return {"routing_key": info.get("routing_key"), "priority": info.get("priority")}


@shared_task
def foreign(x: int) -> int:
    """A task that knows nothing of nodes."""
    write(event="foreign", label=str(x))
    return x * 2


@node_task
def backend() -> int:
    """Give the database server's number of this connection."""
    with connection.cursor() as cursor:
        name = "pg_backend_pid" if connection.vendor == "postgresql" else "connection_id"
        cursor.execute(f"SELECT {name}()")
        number: int = cursor.fetchone()[0]
    return number


@node_task
def remote_fan_out(width: int, queue: str) -> None:
    """Spawn calls of another code base."""
    calls = [signature("other.add", args=[n], queue=queue) for n in range(width)]
    current_node().spawn_many(calls, mode="non_blocking")


@node_task
def spoiler() -> None:
    """Leave a session in which nobody else could work."""
    with connection.cursor() as cursor:
        cursor.execute("SET app.tenant = 'acme'")
        cursor.execute("SET search_path = nowhere")
        cursor.execute("SET default_transaction_read_only = on")


@shared_task
def ask_tenant(label: str) -> None:
    """An ordinary task: tell what its session is like."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('app.tenant', true)")
        (tenant,) = cursor.fetchone()
        cursor.execute("SHOW default_transaction_read_only")
        (read_only,) = cursor.fetchone()
    write(event="tenant", label=label, tenant=tenant, read_only=read_only)


@node_task
def patient() -> None:
    """Wait until the test has seen enough, and makes a file."""
    note("start", label="patient")
    end = Path(os.environ["BACKBEAT_TEST_LOG"]).with_name("end")
    deadline = time.monotonic() + 60
    while not end.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    note("end", label="patient")

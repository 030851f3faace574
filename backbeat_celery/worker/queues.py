"""What a worker listens to."""

from __future__ import annotations

from typing import Any


def queues_of(worker: Any) -> list[str]:
    """Name the queues that a worker listens to now, or will once it is connected."""
    consumer = getattr(getattr(worker, "consumer", None), "task_consumer", None)
    selected = worker.app.amqp.queues.consume_from.values()
    return sorted({str(queue.name) for queue in (consumer.queues if consumer else selected)})

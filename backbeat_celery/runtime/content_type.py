"""The content type of messages about nodes: a worker without this app cannot read them.

Such a message has no arguments, since they are in the row. A worker that has the task and does
not know what a node is would call the handler with none. It refuses content that it has not been
told of, before it looks at the task, and the node waits for a worker that knows it.
"""

from __future__ import annotations

from celery import Celery
from kombu.serialization import register
from kombu.utils import json

SERIALIZER = "backbeat"
CONTENT_TYPE = "application/x-backbeat"


def introduce() -> None:
    """Let this process write such messages, and read them where it is told to accept them."""
    register(SERIALIZER, json.dumps, json.loads, CONTENT_TYPE, "utf-8")


def accept(app: Celery) -> None:
    """Let the workers of an app take such messages beside what its settings name."""
    accepted = app.conf.accept_content
    if accepted is not None and CONTENT_TYPE not in accepted:
        app.conf.accept_content = [*accepted, CONTENT_TYPE]

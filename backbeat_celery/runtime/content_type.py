"""The content type of messages about nodes, which a worker without this app refuses.

Such a message has no arguments, since they are in the row. A worker that has the task but not
this app would call the handler without arguments. It refuses a content type that it does not
accept before it looks at the task, and the node waits for another worker.
"""

from __future__ import annotations

from celery import Celery
from kombu.serialization import register
from kombu.utils import json

SERIALIZER = "backbeat"
CONTENT_TYPE = "application/x-backbeat"


def introduce() -> None:
    """Register the serializer, so that this process can write and read such messages."""
    register(SERIALIZER, json.dumps, json.loads, CONTENT_TYPE, "utf-8")


def accept(app: Celery) -> None:
    """Add the content type to those that an app's workers accept."""
    accepted = app.conf.accept_content
    if accepted is not None and CONTENT_TYPE not in accepted:
        app.conf.accept_content = [*accepted, CONTENT_TYPE]

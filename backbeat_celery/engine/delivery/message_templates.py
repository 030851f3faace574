"""Templates of messages: Celery builds the first message, copies of it differ only in ids.

The messages of a fan-out have the same task, options and route, and no arguments. `send_task()`
needs three times as long to build a message as the broker's library needs to send it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from celery import Celery, signals
from kombu import Producer
from kombu.serialization import dumps

from backbeat_celery.engine.after_commit import Publication
from backbeat_celery.inputs.message_headers import CELERYS
from backbeat_celery.runtime.compat.celery import (
    copied_message,
    has_receivers,
    parent_ids,
    routes_by_name_only,
    sends_plainly,
    sends_stamps,
)
from backbeat_celery.runtime.compat.kombu import in_batches
from backbeat_celery.runtime.ids import uuid7

FLUSH_AFTER = 100
"""Messages in one batch to the broker, so that workers start before the last one is sent."""

MAX_TEMPLATES = 500
"""Templates that are kept, so that a project which generates queue names uses no more memory."""

Header = Callable[[Publication, str], dict[str, Any]]
"""Builds the headers of a node's message, given its id."""


def group_by_template(publications: Iterable[Publication]) -> Iterator[Sequence[Publication]]:
    """Group publications that differ only in the node; each group keeps the order."""
    groups: dict[str, list[Publication]] = defaultdict(list)
    for publication in publications:
        groups[repr((publication.task, publication.options, publication.countdown))].append(
            publication
        )
    yield from groups.values()


def is_templatable(app: Celery, publication: Publication) -> bool:
    """Tell whether a copy would equal Celery's message, and no receiver expects each message."""
    return (
        not publication.countdown
        and sends_plainly(app)
        and not has_receivers(signals.after_task_publish)
        and not has_receivers(signals.task_sent)
        and not app.conf.task_send_sent_event
        and not app.conf.task_inherit_parent_priority
        and app.conf.task_protocol == 2
        and not sends_stamps(app)
        and routes_by_name_only(app)
    )


class Templates:
    """The templates that Celery has built for one broker."""

    def __init__(self) -> None:
        self._known: dict[str, Template] = {}

    def known(self, app: Celery, publication: Publication) -> Template | None:
        """Give the template for a publication, if there is one."""
        return self._known.get(_key(app, publication))

    def get_or_make(
        self,
        app: Celery,
        producer: Producer,
        publication: Publication,
        make: Callable[[Template], None],
    ) -> Template:
        """Give the template for a publication; `make` has Celery publish its message to it."""
        key = _key(app, publication)
        if key not in self._known:
            if len(self._known) >= MAX_TEMPLATES:
                self._known.clear()
            template = Template(producer)
            make(template)
            template.connection = None
            self._known[key] = template
        return self._known[key]


def _key(app: Celery, publication: Publication) -> str:
    task = app.tasks.get(publication.task)
    return repr((publication.task, id(task), publication.options))


@dataclass(frozen=True, slots=True)
class Copy:
    """A message that only has to be published."""

    body: Any
    options: dict[str, Any]

    def publish(self, producer: Producer) -> None:
        """Send it; reconnect if the connection was lost, and declare the queue."""
        producer.publish(self.body, **self.options)


class Template:
    """Acts as a producer for Celery, and keeps the message instead of publishing it."""

    def __init__(self, producer: Producer) -> None:
        self.connection: Any = producer.connection  # Celery asks for it
        self._options: dict[str, Any] = {}
        self._body: Any = None

    def publish(self, body: Any, *, serializer: Any = None, **options: Any) -> None:
        """Keep the message that Celery has built."""
        content_type, content_encoding, self._body = dumps(body, serializer=serializer)
        headers = {name: options["headers"][name] for name in CELERYS & options["headers"].keys()}
        self._options = {
            **options,
            "headers": headers,  # each copy adds the headers of its node
            "content_type": content_type,
            "content_encoding": content_encoding,
        }

    def copy(self, app: Celery, publication: Publication, header: Header) -> Copy:
        """Give the message for a publication."""
        return Copy(self._body, self._copy(publication, header, parent_ids(app)))

    def send(
        self,
        app: Celery,
        producer: Producer,
        publications: Sequence[Publication],
        header: Header,
    ) -> Iterator[int]:
        """Publish a copy for each publication; give the number sent after each step."""
        above = parent_ids(app)
        first = publications[0]
        Copy(self._body, self._copy(first, header, above)).publish(producer)
        yield 1
        without_retry = {"retry": False, "declare": None}
        for start in range(1, len(publications), FLUSH_AFTER):
            chunk = publications[start : start + FLUSH_AFTER]
            with in_batches(producer, FLUSH_AFTER):
                for publication in chunk:
                    copy = self._copy(publication, header, above)
                    producer.publish(self._body, **{**copy, **without_retry})
            yield len(chunk)

    def _copy(
        self, publication: Publication, header: Header, above: tuple[Any, Any]
    ) -> dict[str, Any]:
        task_id = str(uuid7())
        own = header(publication, task_id)
        shown = {"argsrepr": publication.argsrepr, "kwargsrepr": publication.kwargsrepr}
        return copied_message(self._options, own, task_id, above, shown)

"""Copies of a message: Celery makes the first of a kind, the others differ from it in their ids.

A fan-out's messages are alike: the same task, options and route, and no arguments. Making each
by `send_task` takes Celery three times as long as the broker's library needs to send it.
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
"""Messages that a broker with batches gets at once: workers begin before the last is sent."""

MOST_KINDS = 500
"""Originals that are kept; a project that makes up queues does not fill the memory."""


Header = Callable[[Publication, str], dict[str, Any]]
"""Makes a message's own headers, given its id."""


def group_by_template(publications: Iterable[Publication]) -> Iterator[Sequence[Publication]]:
    """Group publications that differ in nothing but the node; each group in order."""
    kinds: dict[str, list[Publication]] = defaultdict(list)
    for publication in publications:
        kinds[repr((publication.task, publication.options, publication.countdown))].append(
            publication
        )
    yield from kinds.values()


def is_templatable(app: Celery, publication: Publication) -> bool:
    """Tell whether copies would be what Celery sends, and nobody looks at each message."""
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
    """The first messages of their kinds that Celery has made for one broker."""

    def __init__(self) -> None:
        self._known: dict[str, Template] = {}

    def known(self, app: Celery, publication: Publication) -> Template | None:
        """The original for a publication, if there is one."""
        return self._known.get(_kind(app, publication))

    def template(
        self,
        app: Celery,
        producer: Producer,
        publication: Publication,
        make: Callable[[Template], None],
    ) -> Template:
        """The original for a publication; `make` has Celery publish it on a stand-in."""
        kind = _kind(app, publication)
        if kind not in self._known:
            if len(self._known) >= MOST_KINDS:
                self._known.clear()
            template = Template(producer)
            make(template)
            template.connection = None
            self._known[kind] = template
        return self._known[kind]


def _kind(app: Celery, publication: Publication) -> str:
    task = app.tasks.get(publication.task)
    return repr((publication.task, id(task), publication.options))


@dataclass(frozen=True, slots=True)
class Copy:
    """A message that has only to be published."""

    body: Any
    options: dict[str, Any]

    def publish(self, producer: Producer) -> None:
        """Send it; find a connection that was lost meanwhile, and declare the queue."""
        producer.publish(self.body, **self.options)


class Template:
    """Stands in for a producer, and keeps the message that it is to publish."""

    def __init__(self, producer: Producer) -> None:
        self.connection: Any = producer.connection  # Celery asks for it
        self._options: dict[str, Any] = {}
        self._body: Any = None

    def publish(self, body: Any, *, serializer: Any = None, **options: Any) -> None:
        """Take the message that Celery has made."""
        content_type, content_encoding, self._body = dumps(body, serializer=serializer)
        headers = {name: options["headers"][name] for name in CELERYS & options["headers"].keys()}
        self._options = {
            **options,
            "headers": headers,  # each copy has those of its own node
            "content_type": content_type,
            "content_encoding": content_encoding,
        }

    def copy(self, app: Celery, publication: Publication, header: Header) -> Copy:
        """The message for a publication."""
        return Copy(self._body, self._copy(publication, header, parent_ids(app)))

    def send(
        self,
        app: Celery,
        producer: Producer,
        publications: Sequence[Publication],
        header: Header,
    ) -> Iterator[int]:
        """Publish a copy with its own header for each; give how many more are sent."""
        above = parent_ids(app)
        first = publications[0]
        Copy(self._body, self._copy(first, header, above)).publish(producer)
        yield 1
        again = {"retry": False, "declare": None}
        for start in range(1, len(publications), FLUSH_AFTER):
            chunk = publications[start : start + FLUSH_AFTER]
            with in_batches(producer, FLUSH_AFTER):
                for publication in chunk:
                    copy = self._copy(publication, header, above)
                    producer.publish(self._body, **{**copy, **again})
            yield len(chunk)

    def _copy(
        self, publication: Publication, header: Header, above: tuple[Any, Any]
    ) -> dict[str, Any]:
        task_id = str(uuid7())
        own = header(publication, task_id)
        shown = {"argsrepr": publication.argsrepr, "kwargsrepr": publication.kwargsrepr}
        return copied_message(self._options, own, task_id, above, shown)

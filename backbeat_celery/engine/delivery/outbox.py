"""The outbox: publish messages that ask a worker to claim a node.

The node's row is what counts, not the message. A lost message is published again by the sweeper,
and a duplicate claims nothing. So publishing is tried once and never blocks for long.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from celery import current_app
from django.db import transaction
from kombu import Producer
from kombu.exceptions import LimitExceeded, OperationalError

from backbeat_celery.engine.after_commit import Publication
from backbeat_celery.engine.delivery.broker_probe import broker_probe
from backbeat_celery.engine.delivery.make_due import make_due_without_waiting
from backbeat_celery.engine.delivery.message_templates import (
    Copy,
    Template,
    group_by_template,
    is_templatable,
)
from backbeat_celery.engine.delivery.producers import Broker, current_broker
from backbeat_celery.engine.delivery.project_app import warn_without_app
from backbeat_celery.inputs.message_headers import HEADER, Keeping
from backbeat_celery.runtime import failpoints, sessions
from backbeat_celery.runtime.compat.celery import app_in_use, parent_ids
from backbeat_celery.runtime.content_type import SERIALIZER
from backbeat_celery.runtime.ids import uuid7

logger = logging.getLogger(__name__)

COOLDOWN = 2
"""Seconds that nothing is sent after an error: a request may send many signals."""
RECONNECT_ONCE = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}


class Outbox(Protocol):
    """Sends messages: to the broker, or to the Simulation's own queue."""

    def send(self, publications: Sequence[Publication], using: str) -> None:
        """Send messages; the sweeper sends again what cannot be sent now."""

    def prepare(self, publication: Publication, using: str) -> None:
        """Build the message that is sent next if the current transaction is committed."""

    def hand_over(self, task: str, *, headers: dict[str, Any], **message: Any) -> None:
        """Send a remote node's call to workers of another code base; raise the broker's errors."""

    def on_commit(self, function: Callable[[], None], using: str) -> None:
        """Call `function` once the current transaction is committed."""

    def call_task(self, name: str, queue: str = "", /, **kwargs: Any) -> None:
        """Send a task that is not a node, to that queue or its usual one; at most once."""

    def depth(self, queue: str) -> int | None:
        """Count the messages on a queue; None if unknown."""


class BrokerOutbox:
    """Sends messages through Celery's broker."""

    def __init__(self) -> None:
        self._try_again_at = 0.0
        self._local = threading.local()

    def prepare(self, publication: Publication, using: str) -> None:
        try:
            self._local.prepared = _prepared(publication, using)
        except Exception:  # `send` will raise and log it again
            logger.debug("Cannot prepare a message", exc_info=True)

    def _take_prepared(self, publications: Sequence[Publication], using: str) -> _Prepared | None:
        prepared: _Prepared | None = vars(self._local).pop("prepared", None)
        if prepared is None or prepared.using != using:
            return None
        alone = len(publications) == 1 and publications[0] is prepared.publication
        return prepared if alone else None

    def send(self, publications: Sequence[Publication], using: str) -> None:
        warn_without_app()
        failpoints.hit("before_publish")
        prepared = self._take_prepared(publications, using)
        groups = [publications] if prepared else list(group_by_template(publications))
        unsent = [publication for group in groups for publication in group]
        try:
            if time.monotonic() < self._try_again_at:
                raise OperationalError("the broker did not answer a moment ago")
            broker = prepared.broker if prepared else current_broker()
            # Receivers of Celery's signals may use the database.
            with sessions.of_project(using), broker.producer() as producer:
                for group in groups:
                    sending = (
                        prepared.send(producer)
                        if prepared
                        else _send_all(group, using, broker, producer)
                    )
                    for count in self._send_group(sending, group, producer):
                        del unsent[:count]
                        failpoints.hit("sent_one")
        except Exception as exc:  # each transport has errors of its own
            logger.warning(
                "%s %d messages: %r. The sweeper sends them again.",
                self._start_cooldown(exc),
                len(unsent),
                exc,
            )
            make_due_without_waiting(
                [pk for publication in unsent for pk in publication.node_ids], using
            )
        failpoints.hit("after_publish")

    def hand_over(self, task: str, *, headers: dict[str, Any], **message: Any) -> None:
        with current_broker().producer() as producer:
            options: dict[str, Any] = {"retry": True, "retry_policy": RECONNECT_ONCE, **message}
            keeping: Any = Keeping(producer, headers)
            current_app.send_task(task, producer=keeping, headers=deepcopy(headers), **options)

    def _send_group(
        self, sending: Iterator[int], group: Sequence[Publication], producer: Producer
    ) -> Iterator[int]:
        """Send a group; give the number of messages that are done after each step."""
        errors: tuple[type[BaseException], ...] = (OperationalError, OSError)
        if producer.connection is not None:
            errors += producer.connection.connection_errors
        done = 0
        try:
            for count in sending:
                done += count
                yield count
        except errors:
            raise
        except Exception:  # an error of this group, such as its priority; the others are sent
            left = group[done:]
            ids = ", ".join(str(publication.node_id) for publication in left[:10])
            logger.exception("Cannot send %d messages, for nodes %s", len(left), ids)
            yield len(left)

    def call_task(self, name: str, queue: str = "", /, **kwargs: Any) -> None:
        try:
            if time.monotonic() < self._try_again_at:
                raise OperationalError("the broker did not answer a moment ago")
            with current_broker().producer() as producer:
                current_app.send_task(
                    name,
                    kwargs=kwargs,
                    producer=producer,
                    queue=queue or None,
                    ignore_result=True,
                    retry=True,
                    retry_policy=RECONNECT_ONCE,
                )
        except Exception as exc:  # each transport has errors of its own
            logger.warning("%s a message for %s: %r.", self._start_cooldown(exc), name, exc)

    def depth(self, queue: str) -> int | None:
        return broker_probe.count_messages(queue)

    def _start_cooldown(self, exc: Exception) -> str:
        """Start a cooldown after an error of the broker; give the start of the log message.

        Otherwise each signal of a request would wait for the broker. If all producers of this
        process are in use, the broker itself is not at fault.
        """
        if isinstance(exc, LimitExceeded):
            return f"All {exc} producers of this process were busy, so it did not send"
        now = time.monotonic()
        if now >= self._try_again_at:
            self._try_again_at = now + COOLDOWN
        return "The broker did not take"

    def on_commit(self, function: Callable[[], None], using: str) -> None:
        transaction.on_commit(function, using=using, robust=True)


def _send_all(
    group: Sequence[Publication], using: str, broker: Broker, producer: Producer
) -> Iterator[int]:
    """Send messages that differ only in the node; give the number sent after each step."""
    app = app_in_use()
    if not is_templatable(app, group[0]):
        for publication in group:
            _send(publication, using, producer)
            yield 1
        return
    template = broker.templates.get_or_make(
        app, producer, group[0], lambda template: _send(group[0], using, template)
    )
    yield from template.send(app, producer, group, partial(header, using))


def header(using: str, publication: Publication, task_id: str) -> dict[str, Any]:
    """Build the headers of a node's message: ours, and those of the node's creator.

    Ours contain the message's id, so that they are ignored on any other message.
    """
    ours: dict[str, Any] = {
        "id": task_id,
        "node": str(publication.node_id),
        "attempt": publication.attempt,
        "db": using,
    }
    if publication.others:
        ours["others"] = [other.hex for other in publication.others]
    return {**publication.headers, HEADER: ours}


def _send(publication: Publication, using: str, producer: Producer | Template) -> None:
    # Each message has a new id: workers drop a revoked id for hours.
    task_id = str(uuid7())
    headers = header(using, publication, task_id)
    keeping: Any = Keeping(producer, headers)
    options: dict[str, Any] = {
        "retry": True,
        "retry_policy": RECONNECT_ONCE,
        **publication.options,
        "serializer": SERIALIZER,
    }
    current_app.send_task(
        publication.task,
        # The arguments are in the row: the broker stores no secrets, and an operator can
        # correct them before a retry.
        args=(),
        kwargs={},
        task_id=task_id,
        producer=keeping,
        headers=deepcopy(headers),  # receivers may change them
        countdown=publication.countdown or None,
        expires=None,
        ignore_result=True,
        argsrepr=publication.argsrepr,
        kwargsrepr=publication.kwargsrepr,
        root_id=parent_ids(current_app)[0],
        **options,
    )


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A message that was built while the database was writing its node."""

    publication: Publication
    using: str
    broker: Broker
    copy: Copy

    def send(self, producer: Producer) -> Iterator[int]:
        self.copy.publish(producer)
        yield 1


def _prepared(publication: Publication, using: str) -> _Prepared | None:
    """Build the message for a publication if its template is known."""
    app = app_in_use()
    broker = current_broker()
    template = (
        broker.templates.known(app, publication) if is_templatable(app, publication) else None
    )
    if template is None:
        return None
    copy = template.copy(app, publication, partial(header, using))
    return _Prepared(publication, using, broker, copy)


_outbox: Outbox = BrokerOutbox()


def outbox() -> Outbox:
    """Give the current outbox."""
    return _outbox


@contextmanager
def replaced_outbox(replacement: Outbox) -> Iterator[None]:
    """Use another outbox."""
    global _outbox
    previous, _outbox = _outbox, replacement
    try:
        yield
    finally:
        _outbox = previous

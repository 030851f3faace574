"""Publish what is due: put messages on the broker that say "look at this node now".

The row is the outbox. A message may be lost or doubled; the row says that work is due, and
the claim drops doubles. So publishing is tried once and never blocks for long.
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
from backbeat_celery.runtime.compat.celery import app_in_use
from backbeat_celery.runtime.content_type import SERIALIZER
from backbeat_celery.runtime.ids import uuid7

logger = logging.getLogger(__name__)

BREATHER_SECONDS = 2
"""How long a broker that failed is left alone: a request may send many signals."""
RECONNECT_ONCE = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}


class Outbox(Protocol):
    """Where messages go: the broker, or the Simulation's own queue."""

    def send(self, publications: Sequence[Publication], using: str) -> None:
        """Send messages; what cannot be sent now is sent again by the sweeper."""

    def prepare(self, publication: Publication, using: str) -> None:
        """Make a message that is sent next, if what is under way is committed."""

    def hand_over(self, task: str, *, headers: dict[str, Any], **message: Any) -> None:
        """Send a call to workers of another code base; raise what the broker raises."""

    def on_commit(self, function: Callable[[], None], using: str) -> None:
        """Call `function` once the current transaction is committed."""

    def call_task(self, name: str, queue: str = "", /, **kwargs: Any) -> None:
        """Have a task called that is no node, by way of that queue or its own; at most once."""

    def depth(self, queue: str) -> int | None:
        """Count the messages that wait on a queue; None where nobody can tell."""


class BrokerOutbox:
    """Sends messages through Celery's broker."""

    def __init__(self) -> None:
        self._try_again_at = 0.0
        self._ahead = threading.local()

    def prepare(self, publication: Publication, using: str) -> None:
        try:
            self._ahead.prepared = _prepared(publication, using)
        except Exception:  # whatever it is, `send` meets it again and says so
            logger.debug("Cannot prepare a message", exc_info=True)

    def _take_prepared(self, publications: Sequence[Publication], using: str) -> _Prepared | None:
        prepared: _Prepared | None = vars(self._ahead).pop("prepared", None)
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
            # Receivers of Celery's signals, and who wraps it, may use the database.
            with sessions.of_project(using), broker.producer() as producer:
                for group in groups:
                    sending = (
                        prepared.send(producer)
                        if prepared
                        else _send_all(group, using, broker, producer)
                    )
                    for count in self._guarded(sending, group, producer):
                        del unsent[:count]
                        failpoints.hit("sent_one")
        except Exception as exc:  # any transport's own errors; nothing is lost by it
            logger.warning(
                "%s %d messages: %r. The sweeper sends them again.",
                self._note_trouble(exc),
                len(unsent),
                exc,
            )
            make_due_without_waiting(
                [pk for publication in unsent for pk in publication.node_ids], using
            )
        failpoints.hit("after_publish")

    def hand_over(self, task: str, *, headers: dict[str, Any], **message: Any) -> None:
        with current_broker().producer() as producer:
            how: dict[str, Any] = {"retry": True, "retry_policy": RECONNECT_ONCE, **message}
            keeping: Any = Keeping(producer, headers)
            current_app.send_task(task, producer=keeping, headers=deepcopy(headers), **how)

    def _guarded(
        self, sending: Iterator[int], group: Sequence[Publication], producer: Producer
    ) -> Iterator[int]:
        """Send messages of one kind; tell each time how many more are done with."""
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
        except Exception:  # its own queue or priority; the others are none the worse
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
        except Exception as exc:  # any transport's own errors
            logger.warning("%s a message for %s: %r.", self._note_trouble(exc), name, exc)

    def depth(self, queue: str) -> int | None:
        return broker_probe.count_messages(queue)

    def _note_trouble(self, exc: Exception) -> str:
        """Leave a broker that failed alone for a while; begin the sentence that tells of it.

        Each of a request's signals would wait for it. That all our producers are in use says
        nothing of the broker.
        """
        if isinstance(exc, LimitExceeded):
            return f"All {exc} producers of this process were busy, so nobody sent"
        now = time.monotonic()
        if now >= self._try_again_at:
            self._try_again_at = now + BREATHER_SECONDS
        return "The broker did not take"

    def on_commit(self, function: Callable[[], None], using: str) -> None:
        transaction.on_commit(function, using=using, robust=True)


def _send_all(
    group: Sequence[Publication], using: str, broker: Broker, producer: Producer
) -> Iterator[int]:
    """Send messages that differ in nothing but the node; give how many more the broker has."""
    app = app_in_use()
    if not is_templatable(app, group[0]):
        for publication in group:
            _send(publication, using, producer)
            yield 1
        return
    template = broker.templates.template(
        app, producer, group[0], lambda template: _send(group[0], using, template)
    )
    yield from template.send(app, producer, group, partial(header, using))


def header(using: str, publication: Publication, task_id: str) -> dict[str, Any]:
    """The headers of a node's message: what it is about, and what its creator would put on.

    The message's own id makes them worthless on any other message.
    """
    said: dict[str, Any] = {
        "id": task_id,
        "node": str(publication.node_id),
        "attempt": publication.attempt,
        "db": using,
    }
    if publication.others:
        said["others"] = [other.hex for other in publication.others]
    return {**publication.headers, HEADER: said}


def _send(publication: Publication, using: str, producer: Producer | Template) -> None:
    # Each publication has an id of its own: a revoked id would be dropped for hours.
    task_id = str(uuid7())
    headers = header(using, publication, task_id)
    keeping: Any = Keeping(producer, headers)
    how: dict[str, Any] = {
        "retry": True,
        "retry_policy": RECONNECT_ONCE,
        **publication.options,
        "serializer": SERIALIZER,
    }
    current_app.send_task(
        publication.task,
        # The arguments are in the row: no secret lies about in the broker, and an operator
        # can correct them before a retry.
        args=(),
        kwargs={},
        task_id=task_id,
        producer=keeping,
        headers=deepcopy(headers),  # others may write into them
        countdown=publication.countdown or None,
        expires=None,
        ignore_result=True,
        argsrepr=publication.argsrepr,
        kwargsrepr=publication.kwargsrepr,
        **how,
    )


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A message that was made while the database was writing its node."""

    publication: Publication
    using: str
    broker: Broker
    copy: Copy

    def send(self, producer: Producer) -> Iterator[int]:
        self.copy.publish(producer)
        yield 1


def _prepared(publication: Publication, using: str) -> _Prepared | None:
    """The message for a publication, if it is a copy of one that was sent before."""
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
    """Where messages go."""
    return _outbox


@contextmanager
def replaced_outbox(replacement: Outbox) -> Iterator[None]:
    """Send messages elsewhere."""
    global _outbox
    previous, _outbox = _outbox, replacement
    try:
        yield
    finally:
        _outbox = previous

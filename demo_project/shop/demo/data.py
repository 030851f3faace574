"""The demo's folder: one demo at a time, with fresh files unless they are to be kept."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connections
from kombu.exceptions import OperationalError

from demo_project import celery
from demo_project.shop.demo import calendar


@contextmanager
def locked_folder() -> Iterator[Path]:
    """Hold the demo's folder, so that a second demo does not delete the files of this one."""
    folder = Path(settings.DATA_DIR)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                f"A demo is running in {folder} already. Stop it, or give this one "
                "another folder with BACKBEAT_DEMO_DIR."
            ) from None
        yield folder


def broker_name() -> str:
    """Name the broker for the reader, without its password."""
    if celery.is_embedded():
        return "SQLite (no server)"
    try:
        return str(celery.app.connection_for_write().as_uri())
    except (KeyError, ImportError) as exc:
        raise CommandError(f"This broker cannot be used: {exc}") from exc


def prepare(folder: Path, *, keep: bool) -> None:
    """Make the files that the demo needs: a database with its tables, and an empty broker."""
    connections.close_all()
    # The broker's rows are never deleted by kombu, and the database knows what is due: the
    # messages of an earlier run are not worth keeping.
    for pattern in ("broker.sqlite3*", "*.log", *([] if keep else ["db.sqlite3*"])):
        for path in folder.glob(pattern):
            path.unlink()
    celery.use_broker(celery.app.conf.broker_url)
    _declare_queue()
    call_command("migrate", verbosity=0, interactive=False)
    calendar.fill()


def _declare_queue() -> None:
    """Make the queue before the workers do: two at once get in each other's way in SQLite."""
    with _broker() as channel:
        celery.app.amqp.queues[celery.app.conf.task_default_queue](channel).declare()


def delete_queue() -> None:
    """Delete our messages on a broker that is a server."""
    if celery.is_embedded():
        return
    queue = celery.app.conf.task_default_queue
    with suppress(CommandError), _broker() as channel:
        channel.queue_delete(queue)
        if celery.is_redis():
            # What a killed worker had fetched; the prefix in `use_broker` makes these keys ours.
            bindings = [f"_kombu.{kind}.{queue}" for kind in ("binding", "binding_permanent")]
            channel.client.delete(channel.unacked_key, channel.unacked_index_key, *bindings)


@contextmanager
def _broker() -> Iterator[Any]:
    with celery.app.connection_for_write(connect_timeout=3) as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=3)
            yield connection.default_channel
        except (OperationalError, OSError, *connection.connection_errors) as exc:
            raise CommandError(f"No broker at {connection.as_uri()}: {exc}") from exc

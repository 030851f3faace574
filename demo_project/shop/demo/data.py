"""The demo's folder: one demo at a time, with fresh files unless they are to be kept."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connections

from demo_project import celery


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


def prepare(folder: Path, *, keep: bool) -> None:
    """Make the files that the demo needs: a database with its tables, and an empty broker."""
    connections.close_all()
    # The broker's rows are never deleted by kombu, and the database knows what is due: the
    # messages of an earlier run are not worth keeping.
    for pattern in ("broker.sqlite3*", "*.log", *([] if keep else ["db.sqlite3*"])):
        for path in folder.glob(pattern):
            path.unlink()
    celery.use_broker(celery.app.conf.broker_url)
    call_command("migrate", verbosity=0, interactive=False)


def delete_queue() -> None:
    """Leave nothing on a broker that is a server."""
    if celery.is_embedded():
        return
    with celery.app.connection_for_write(connect_timeout=2) as connection:
        connection.default_channel.queue_delete(celery.app.conf.task_default_queue)

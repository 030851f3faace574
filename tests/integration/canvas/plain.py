"""Plain Celery, without this package: the app of a worker process and of its callers."""

from __future__ import annotations

import os
import sys

from celery import Celery, shared_task

URL, PREFIX = "BACKBEAT_TEST_PLAIN_URL", "BACKBEAT_TEST_PLAIN_PREFIX"
"""Variables of the environment: a database of a Redis, and what all keys in it begin with."""

SHAPES = ("documents", "invoices", "forms", "uploads", "harvest", "costs", "pages")
MIGRATIONS = ("merging", "checking", "importing")
MODULES = [
    *(f"{__package__}.shapes.{name}" for name in SHAPES),
    *(f"{__package__}.migrations.{name}.tasks" for name in MIGRATIONS),
]
QUEUES = ("plain", "small", "large", "second")


def make_app(url: str, prefix: str) -> Celery:
    """Make an app whose broker and result backend are one database of a Redis."""
    app = Celery("plain", broker=url, backend=url, set_as_current=False)
    app.conf.update(
        task_default_queue="plain",
        broker_connection_retry_on_startup=True,
        broker_transport_options={"global_keyprefix": prefix},
        result_backend_transport_options={"global_keyprefix": prefix},
        # A message is there until its task has ended: so it can be told when all is done.
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        include=MODULES,
    )
    return app


@shared_task(name="plain.has_package")
def has_package() -> bool:
    """Whether this process has imported what these tests are about."""
    return any(name.partition(".")[0] == "backbeat_celery" for name in sys.modules)


if URL in os.environ:
    app = make_app(os.environ[URL], os.environ[PREFIX])

"""The Celery app of the demo, and the embedded broker that it uses unless told otherwise."""

from __future__ import annotations

import os
import sqlite3
from zlib import crc32

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")

from django.conf import settings

app = Celery("demo_project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


def use_broker(url: str) -> None:
    """Use this broker, in this process and in those that it starts."""
    os.environ["BACKBEAT_DEMO_BROKER"] = url
    # Two copies of the demo that share a server do not take each other's messages.
    queue = f"backbeat-demo-{crc32(str(settings.DATA_DIR).encode()):08x}"
    app.conf.update(
        broker_url=url,
        broker_transport_options={},
        broker_connection_retry_on_startup=True,
        task_default_queue=queue,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
    )
    if is_embedded():
        tune_embedded_broker()
    elif is_redis():
        app.conf.broker_transport_options = {"global_keyprefix": f"{queue}:"}


def is_embedded() -> bool:
    """Whether the broker is a SQLite file, which needs no server."""
    return str(app.conf.broker_url).startswith(("sqla+", "sqlalchemy+"))


def is_redis() -> bool:
    """Whether the broker is Redis, which keeps unacknowledged messages under shared keys."""
    return str(app.conf.broker_url).startswith(("redis", "valkey"))


def tune_embedded_broker() -> None:
    """Make kombu's SQLAlchemy transport fast enough to watch: a tenth of a second a hop."""
    from kombu.transport.sqlalchemy import Transport

    # An attribute of the class, since kombu hands unknown options on to create_engine().
    Transport.polling_interval = 0.1
    app.conf.broker_transport_options = {"connect_args": {"timeout": 30}}
    with sqlite3.connect(settings.EMBEDDED_BROKER_FILE) as connection:
        connection.execute("PRAGMA journal_mode=WAL")  # kept in the file
    connection.close()


use_broker(settings.CELERY_BROKER_URL)

"""The Celery app of the tests and of the worker processes they start."""

import os
import sqlite3

from celery import Celery
from celery.signals import worker_init

from tests import measuring, services

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

app = Celery("tests", broker=services.broker_url(services.broker_kind()))
app.conf.update(
    task_default_queue=f"backbeat-tests-{services.run_id()}",
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_enable_remote_control=services.broker_kind() != "embedded",
)
if services.broker_kind() == "embedded":
    from kombu.transport.sqlalchemy import Transport

    Transport.polling_interval = 0.1
    app.conf.broker_transport_options = {"connect_args": {"timeout": 30}}
    path = app.conf.broker_url.removeprefix("sqla+sqlite:///")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
app.autodiscover_tasks(["backbeat_celery"])
app.autodiscover_tasks(["tests"], related_name="workflows")
app.autodiscover_tasks(["tests.real"], related_name="handlers")
worker_init.connect(measuring.keep_saving)

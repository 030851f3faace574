"""The Celery app of the benchmark's project, set as docs/production.md asks for."""

import os

from celery import Celery

from benchmarks import quorum

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.ours.settings")

app = Celery("ours", broker=os.environ["BENCH_BROKER"])
app.conf.update(
    task_default_queue="bench",
    broker_connection_retry_on_startup=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
)
quorum.declare(app, "bench")
app.autodiscover_tasks(["benchmarks.ours"])

"""The project before backbeat_celery came: the same tasks, and neither the package nor Django."""

import json
import os
import time

from celery import Celery

app = Celery("foreign", broker=os.environ["FOREIGN_BROKER"])
app.conf.update(
    task_default_queue=os.environ["FOREIGN_QUEUE"],
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    broker_transport_options=json.loads(os.environ["FOREIGN_OPTIONS"]),
)
log = os.open(os.environ["FOREIGN_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def called(*args, **kwargs):
    """Confess: each of these handlers would have worked with its defaults."""
    line = {"event": "foreign", "node": "", "attempt": 0, "pid": os.getpid()}
    os.write(log, (json.dumps({**line, "at": time.monotonic()}) + "\n").encode())


for kind in ("work", "atomic", "timed", "awaited", "brittle", "rescue"):
    app.task(called, name=f"chaos.{kind}")
for kind in ("patient", "brittle", "linked", "told"):
    app.task(called, name=f"chaos.canvas.{kind}")

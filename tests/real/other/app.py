"""Another code base: plain Celery, without Django, backbeat_celery or any database.

It runs in a virtual environment of its own; see tests/real/test_remote.py.
"""

import os
import time
from pathlib import Path

from celery import Celery

app = Celery("other", broker=os.environ["OTHER_BROKER_URL"])
app.conf.update(
    task_default_queue=os.environ["OTHER_QUEUE"],
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    worker_enable_remote_control=False,
)
if app.conf.broker_url.startswith("sqla"):
    from kombu.transport.sqlalchemy import Transport

    Transport.polling_interval = 0.1
    app.conf.broker_transport_options = {"connect_args": {"timeout": 30}}


def note(label: str) -> None:
    with Path(os.environ["OTHER_LOG"]).open("a") as log:
        log.write(label + "\n")


@app.task(name="tests.real.handlers.step")
def step(label="nobody", seconds=0):
    """A handler of the project, in a worker of the release before backbeat_celery came."""
    note(f"step {label}")


@app.task(name="other.add")
def add(x, y=1):
    note(f"add {x} {y}")
    return x + y


@app.task(name="other.fail")
def fail():
    note("fail")
    raise RuntimeError("not my day")


@app.task(name="other.retry", bind=True)
def retry(self):
    note("retry")
    if self.request.retries < 1:
        raise self.retry(countdown=0)
    return "at last"


@app.task(name="other.huge")
def huge(size):
    note("huge")
    return "x" * size


@app.task(name="other.slow")
def slow(seconds):
    """Take long the first time."""
    first = "slow" not in Path(os.environ["OTHER_LOG"]).read_text()
    note("slow")
    if first:
        time.sleep(seconds)
    return "first" if first else "second"


@app.task(name="other.stuck")
def stuck():
    note("stuck")
    time.sleep(600)


@app.task(name="other.late")
def late(gate):
    """The first call answers only when a file is there, and long after the second one."""
    first = "late" not in Path(os.environ["OTHER_LOG"]).read_text()
    note("late")
    if not first:
        return "second"
    while not Path(gate).exists():
        time.sleep(0.05)
    note("late answer")
    return "first"

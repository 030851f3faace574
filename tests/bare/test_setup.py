"""One clear sentence for a project in which something was never set up."""

from __future__ import annotations

from tests.bare.house import House
from tests.waiting import until

NO_APP = "No Celery app of the project is imported in this process"
NOT_MIGRATED = "run manage.py migrate"

WITHOUT_APP = """
import json
from datetime import timedelta
from django.utils import timezone
from kombu.exceptions import OperationalError
from backbeat_celery import signal
from backbeat_celery.engine.delivery import outbox
from backbeat_celery.models import Node
def no_broker():
    raise OperationalError("no broker for this test")
outbox.current_broker = no_broker
from till.tasks import charge
nodes = [signal(charge.s("4111", 5), subject=f"order {n}") for n in range(2)]
Node.objects.update(publish_at=timezone.now() + timedelta(hours=1))
print(json.dumps(nodes[0].explain()))
"""

SIGNAL = """
import json
from backbeat_celery import signal
from backbeat_celery.exceptions import NotMigrated
from till.tasks import charge
try:
    signal(charge.s("4111", 5), subject="order")
except NotMigrated as exc:
    print(json.dumps(str(exc)))
"""

MAPPED = """
import json
from celery import Celery
app = Celery("house", broker="memory://")
app.set_default()
app.finalize()
@app.task(name="till.count")
def count(item):
    pass
from backbeat_celery import signal
canvases = count.map([1]), count.chunks([[1]], 1)
print(json.dumps([signal(canvas, subject="order").status for canvas in canvases]))
"""

IMPORT = """
import json
import backbeat_celery
from django.core.exceptions import ImproperlyConfigured
said = []
for name in backbeat_celery.__all__:
    getattr(backbeat_celery, name)
@backbeat_celery.node_task
def task():
    pass
for attempt in (
    lambda: __import__("backbeat_celery.models"),
    lambda: backbeat_celery.signal(task, subject="order"),
):
    try:
        attempt()
    except ImproperlyConfigured as exc:
        said.append(str(exc))
print(json.dumps(said))
"""


def test_a_process_without_the_celery_app_says_so(house):
    bare = house.without("celery")
    checked = bare.manage("check")
    assert "backbeat_celery.W030" in checked and NO_APP in checked
    assert "from .celery import app" in checked
    assert "W030" not in house.manage("check")
    done = bare.run("django", "shell", "-v", "0", "-c", WITHOUT_APP)
    assert NO_APP in done.stdout, done.stdout + done.stderr
    assert done.stderr.count(NO_APP) == 1, "once a process"


def test_missing_tables_are_told_once_and_made_good(tmp_path):
    house = House(tmp_path, backbeat={"SWEEP_INTERVAL": 0.1})
    checked = house.manage("check", "--database", "default")
    assert "backbeat_celery.W031" in checked and NOT_MIGRATED in checked
    assert NOT_MIGRATED in house.python(SIGNAL)
    worker = ("celery", "-A", "house", "worker", "-P", "solo", "-l", "WARNING")
    with house.process(*worker):
        until(lambda: NOT_MIGRATED in house.said(), 60, house.said)
        house.manage("migrate", "-v", "0")
        swept = "SELECT 1 FROM backbeat_celery_sweeperlease WHERE swept_at IS NOT NULL"
        until(lambda: house.rows(swept), 60, house.said)
        beat = "SELECT queues FROM backbeat_celery_workerheartbeat"
        assert until(lambda: house.rows(beat), 60, house.said) == [('["celery"]',)]
    said = house.said()
    assert said.count(NOT_MIGRATED) == 1 and "Traceback" not in said, said
    assert "W031" not in house.manage("check", "--database", "default")


def test_a_missing_entry_in_installed_apps_is_named(tmp_path):
    said = House(tmp_path, "package").python(IMPORT)
    assert len(said) == 2
    assert all("Add 'backbeat_celery' to INSTALLED_APPS" in sentence for sentence in said)


def test_a_process_that_discovers_no_tasks_may_send_a_map(house: House) -> None:
    """Its app has not been told where tasks are; ours it knows all the same."""
    assert house.python(MAPPED) == ["queued", "waiting"]

"""The Celery app of the tests and of the worker processes they start."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

app = Celery("tests", broker=os.environ.get("BACKBEAT_TEST_WORKER_BROKER", "memory://"))
app.autodiscover_tasks(["backbeat_celery"])
app.autodiscover_tasks(["tests"], related_name="workflows")

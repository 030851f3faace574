"""Run a workflow with nothing but the installed package: no test suite, no extras, no services."""

from importlib.metadata import version
from importlib.resources import files

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="smoke",
    USE_TZ=True,
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "backbeat_celery"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
)
django.setup()

from celery import Celery
from django.core.management import call_command
from django.template import engines

from backbeat_celery import current_node, node_task, signal
from backbeat_celery.testing import Simulation
from backbeat_celery.tree import render

app = Celery("smoke", broker="memory://", set_as_current=True)


@node_task(name="reserve")
def reserve(camera: int) -> int:
    current_node().spawn(notify.s(camera), mode="non_blocking")
    return camera


@node_task(name="notify")
def notify(camera: int) -> str:
    return f"camera {camera} is yours"


call_command("migrate", verbosity=0)
with Simulation() as sim:
    node = signal(reserve.s(703), subject="camera:703")
    sim.run()
node.refresh_from_db()
print(render(node.workflow))
# Our template tags are imported in every project, also in one without the admin, as here.
engines["django"].from_string("{% load backbeat_admin %}").render()
parts = (
    "py.typed",
    "static/backbeat_celery/backbeat.css",
    "static/backbeat_celery/backbeat.js",
    "templates/admin/backbeat_celery/app_index.html",
    "templates/admin/backbeat_celery/workflow/live.html",
)
missing = [part for part in parts if not files("backbeat_celery").joinpath(part).is_file()]
if node.status != "complete" or missing:
    raise SystemExit(f"The installed package does not work: {missing or node.status}")
print(f"backbeat-celery {version('backbeat-celery')} works where it is installed.")

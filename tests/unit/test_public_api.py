"""The public names: importable early, complete, and no more than documented."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import backbeat_celery
from backbeat_celery import signal
from backbeat_celery.api import SignalOptions
from backbeat_celery.inputs.canvas import task_spec
from backbeat_celery.inputs.node_spec import flag_spec
from backbeat_celery.runtime.current_node import CurrentNode
from backbeat_celery.typing import FlagOptions, SpawnOptions
from tests import pace

ROOT = Path(__file__).parents[2]
NAMES = {
    "complete_by_token",
    "fail_by_token",
    "Mode",
    "NodeResult",
    "NodeTask",
    "current_node",
    "node_task",
    "signal",
    "signal_many",
}


def python(code: str, folder: Path = ROOT, **environment: str) -> str:
    """Run code in a Python of its own, without this run's Django settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DJANGO", "BACKBEAT"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env={**kept, "PYTHONPATH": f"{folder}:{ROOT}", **environment},
        capture_output=True,
        text=True,
        timeout=pace.allowed(120),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_names_are_those_of_the_contract():
    assert set(backbeat_celery.__all__) == NAMES
    assert list(backbeat_celery.__all__) == sorted(backbeat_celery.__all__)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_name_is_there(name):
    assert getattr(backbeat_celery, name) is not None


def options(function):
    """The keyword-only parameters of a function."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


def test_options_that_are_written_out_are_those_of_the_types():
    assert options(signal) == SignalOptions.__annotations__.keys()
    assert options(CurrentNode.spawn) == SpawnOptions.__annotations__.keys()
    assert options(task_spec) - {"is_replacement"} == SpawnOptions.__annotations__.keys()
    assert options(flag_spec) == FlagOptions.__annotations__.keys()


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="singal"):
        _ = backbeat_celery.singal


def test_the_package_is_imported_without_django_settings():
    assert python("import backbeat_celery; print(backbeat_celery.__version__)")


def test_the_pytest_plugin_is_imported_without_django_settings():
    python("import backbeat_celery.testing.pytest_plugin")


SETTINGS = """
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "backbeat_celery", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
"""

EARLY = """
from backbeat_celery import Mode, NodeTask, current_node, node_task, signal, signal_many

@node_task(mode=Mode.NON_BLOCKING)
def ship(order): ...

class Charge(NodeTask):
    name = "shop.charge"

class Refund(NodeTask[[int], str]):
    name = "shop.refund"
"""


@pytest.fixture
def project(tmp_path):
    """A project whose code imports every public name as early as can be."""
    (tmp_path / "project.py").write_text(SETTINGS)
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "__init__.py").write_text("")
    (shop / "tasks.py").write_text(EARLY)
    (shop / "celery.py").write_text(
        "from celery import Celery\napp = Celery('shop')\n"
        "app.config_from_object('django.conf:settings', namespace='CELERY')\n"
        "app.autodiscover_tasks()\n"
    )

    def run(code: str) -> str:
        return python(code, tmp_path, DJANGO_SETTINGS_MODULE="project")

    return run


SETUP = "import django; django.setup(); "
LOAD = "from shop.celery import app; app.loader.import_default_modules(); "
SHOW = LOAD + "print('shop.tasks.ship' in app.tasks)"


def test_every_name_is_imported_before_the_app_registry_is_ready(project, tmp_path):
    (tmp_path / "shop" / "__init__.py").write_text("import shop.tasks\n")
    assert project(SETUP + SHOW) == "True"


def test_every_name_is_imported_by_models(project, tmp_path):
    (tmp_path / "shop" / "models.py").write_text("import shop.tasks\n")
    assert project(SETUP + SHOW) == "True"


def test_the_usual_layout_of_celery_and_django_works(project, tmp_path):
    (tmp_path / "shop" / "__init__.py").write_text("from .celery import app as celery_app\n")
    assert project(SETUP + SHOW) == "True"


def test_the_tasks_for_schedules_are_found(project):
    assert project(SETUP + LOAD + "print('backbeat.sweep' in app.tasks)") == "True"


def test_a_project_has_no_pending_migrations(project):
    code = "from django.core.management import call_command as c; c('makemigrations', check=True)"
    assert "No changes" in project(SETUP + code)

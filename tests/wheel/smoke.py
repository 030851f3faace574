"""Run workflows with nothing but the installed package: no test suite, no extras, no services.

First in this process, on the clock of a Simulation; then on a worker of its own.
"""

import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

PARTS = (
    "py.typed",
    "static/backbeat_celery/backbeat.css",
    "static/backbeat_celery/backbeat.js",
    "templates/admin/backbeat_celery/app_index.html",
    "templates/admin/backbeat_celery/workflow/live.html",
)
DEADLINE = 180
"""Seconds; a busy machine takes twenty."""


def main() -> None:
    """Set the project up, and try the package in it."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {"WHEEL_SCRATCH": scratch, "DJANGO_SETTINGS_MODULE": "settings"}
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        check_parts()
        check_simulation()
        check_worker(Path(scratch))
    names = ("backbeat-celery", "celery", "kombu", "django", "django-celery-beat")
    print("These work together:", ", ".join(f"{name} {version(name)}" for name in names))


def check_parts() -> None:
    """Find what is no Python module in the wheel."""
    from django.template import engines

    missing = [part for part in PARTS if not files("backbeat_celery").joinpath(part).is_file()]
    if missing:
        raise SystemExit(f"The wheel lacks {missing}.")
    # Our template tags are imported in every project, also in one without the admin, as here.
    engines["django"].from_string("{% load backbeat_admin %}").render()


def check_simulation() -> None:
    """Run a workflow in this process."""
    from shop import reserve

    from backbeat_celery import signal
    from backbeat_celery.testing import Simulation

    with Simulation() as sim:
        node = signal(reserve.s(703), subject="camera:703")
        sim.run()
    check(node)


def check_worker(scratch: Path) -> None:
    """Run a workflow on `celery worker`."""
    from shop import reserve

    from backbeat_celery import signal

    (scratch / "broker").mkdir()
    node = signal(reserve.s(704), subject="camera:704")
    command = "-m celery -A shop worker -c 2 -l INFO --without-gossip --without-mingle"
    log = scratch / "worker.log"
    worker = subprocess.Popen(
        [sys.executable, *command.split()],
        cwd=Path(__file__).parent,
        stdout=log.open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        wait_for(node)
        check(node)
        if node.result in {None, os.getpid()}:
            raise SystemExit(f"No worker ran it: {node.result}")
    except SystemExit:
        print(log.read_text())
        raise
    finally:
        worker.terminate()
        worker.wait(timeout=DEADLINE)


def wait_for(node) -> None:
    """Wait until a node is complete, or the deadline has passed."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and node.status != "complete":
        time.sleep(0.1)
        node.refresh_from_db()


def check(node) -> None:
    """Refuse a node that is not complete with its child."""
    from backbeat_celery.models import Node

    node.refresh_from_db()
    tree = dict(Node.objects.filter(workflow=node.workflow).values_list("task", "status"))
    if {tree.get("reserve"), tree.get("notify")} != {"complete"}:
        raise SystemExit(f"The installed package does not work: {tree}")


if __name__ == "__main__":
    main()

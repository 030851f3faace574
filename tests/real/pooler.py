"""A PgBouncer in front of this run's PostgreSQL, which changes the server between transactions."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg

from tests import pace
from tests.waiting import until

SERVERS = 3
"""Fewer than there are clients, so that nobody keeps a server for long."""

CONFIG = """
[databases]
* = host={host} port={port} user={user}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
admin_users = admin
pool_mode = transaction
default_pool_size = {servers}
max_client_conn = 100
server_reset_query_always = 0
logfile = {log}
"""


class Pooler:
    """`pgbouncer`, with transaction pooling."""

    def __init__(self, folder: Path, url: str) -> None:
        parts = urlsplit(url)
        host = parse_qs(parts.query).get("host", [parts.hostname or "127.0.0.1"])[0]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.log = folder / "pgbouncer.log"
        path = folder / "pgbouncer.ini"
        path.write_text(
            CONFIG.format(
                host=host,
                port=parts.port or 5432,
                user=parts.username or "postgres",
                listen=self.port,
                servers=SERVERS,
                log=self.log,
            )
        )
        self.process = subprocess.Popen(
            [*_unprivileged(folder, host), str(binary()), "-q", str(path)],
            start_new_session=True,
        )
        until(self._answers, 20, lambda: self.log.read_text() if self.log.exists() else "no log")

    @property
    def url(self) -> str:
        """The address, without the database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/"

    def pools(self) -> list[dict[str, str]]:
        """What `SHOW POOLS` says."""
        with psycopg.connect(f"{self.url}pgbouncer?user=admin", autocommit=True) as connection:
            cursor = connection.execute("SHOW POOLS")
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, map(str, row), strict=True)) for row in cursor.fetchall()]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(timeout=pace.allowed(60))

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False


def binary() -> str | None:
    """The program, also where root alone has its folder on the path."""
    return shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")


def _unprivileged(folder: Path, host: str) -> list[str]:
    """PgBouncer does not run as root: run it as who owns the server's socket."""
    if os.geteuid() != 0:
        return []
    socket_folder = Path(host)
    owner = socket_folder.stat().st_uid if host.startswith("/") else 0
    user = pwd.getpwuid(owner) if owner else pwd.getpwnam("nobody")
    for path in (folder, folder / "pgbouncer.ini"):
        os.chown(path, user.pw_uid, user.pw_gid)
    shared = Path(tempfile.gettempdir())
    for parent in folder.parents:
        if parent.is_relative_to(shared) and parent != shared:
            parent.chmod(0o755)  # pytest's own folders, which nobody else may enter
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]

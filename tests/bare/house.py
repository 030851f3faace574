"""Start processes of the small project, each with nothing imported beforehand."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

from tests import pace

PROJECT = Path(__file__).parent / "project"
SOURCE = Path(__file__).parents[2]
SECRET = "4111-SECRET"
LONGEST = 120
"""Seconds that a process may take: far more than it does."""


class House:
    """The project with a folder of its own for its database and its broker."""

    def __init__(self, folder: Path, forgets: str = "", backbeat: dict[str, Any] | None = None):
        self.folder = folder
        self.made: Any = None
        self.environment = {
            **{name: value for name, value in os.environ.items() if "BACKBEAT" not in name},
            "DJANGO_SETTINGS_MODULE": "house.settings",
            "HOUSE_FOLDER": str(folder),
            "HOUSE_FORGETS": forgets,
            "HOUSE_BACKBEAT": json.dumps(backbeat or {}),
            "PYTHONPATH": os.pathsep.join([str(PROJECT), str(SOURCE)]),
        }

    def without(self, what: str, **backbeat: Any) -> House:
        """The same project in an image that lacks something."""
        return self._with(House(self.folder, what, backbeat))

    def copy(self, folder: Path) -> House:
        """The same with a copy of its data."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return self._with(House(folder, self.environment["HOUSE_FORGETS"]))

    def _with(self, other: House) -> House:
        other.made = self.made
        return other

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a module of Python to its end."""
        return subprocess.run(
            [sys.executable, "-m", *command],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=pace.allowed(LONGEST),
        )

    def manage(self, *command: str) -> str:
        """Run a command of Django's that succeeds; give what it prints."""
        done = self._managed(*command)
        return done.stdout + done.stderr

    def _managed(self, *command: str) -> subprocess.CompletedProcess[str]:
        done = self.run("django", *command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def python(self, code: str) -> Any:
        """Run code in Django's shell, which prints JSON as its last line."""
        return json.loads(self._managed("shell", "-v", "0", "-c", code).stdout.splitlines()[-1])

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read the database without any process of the project."""
        with closing(sqlite3.connect(self.folder / "db.sqlite3", timeout=20)) as connection:
            found = connection.execute(sql, values).fetchall()
            connection.commit()
        return found

    def messages(self) -> list[dict[str, Any]]:
        """The headers of the messages that are on the broker."""
        path = self.folder / "broker.sqlite3"
        with closing(sqlite3.connect(path, timeout=20)) as connection:
            rows = connection.execute("SELECT payload FROM kombu_message").fetchall()
        return [json.loads(payload)["headers"] for (payload,) in rows]

    @contextmanager
    def process(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """Run a module of Python beside the test."""
        running = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "stderr").open("w"),
            text=True,
        )
        with running:
            try:
                yield running
            finally:
                running.terminate()

    def said(self) -> str:
        """What the process has written to standard error."""
        return (self.folder / "stderr").read_text()

    @contextmanager
    def web(self) -> Iterator[Browser]:
        """Serve the project, and look at it."""
        with self.process("house.serve") as server:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            assert port, self.said()
            yield Browser(f"http://127.0.0.1:{port}")


class Browser:
    """Keeps cookies, and sends forms."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.cookies = CookieJar()
        self._opener = build_opener(HTTPCookieProcessor(self.cookies))

    def get(self, path: str) -> str:
        return self._send(Request(self.base + path, method="GET"))

    def post(self, path: str, **data: str) -> str:
        """Send a form as the page shows it, with the fields given."""
        token = next((c.value for c in self.cookies if c.name == "csrftoken"), "")
        body = urlencode({"csrfmiddlewaretoken": token, **data}).encode()
        return self._send(Request(self.base + path, data=body))

    def report(self, path: str, **said: Any) -> str:
        """Send JSON, as another service does."""
        return self._send(Request(self.base + path, data=json.dumps(said).encode()))

    def login(self, name: str) -> None:
        self.cookies.clear()
        self.get("/admin/login/")
        self.post("/admin/login/", username=name, password="pw", next="/admin/")

    def _send(self, request: Request) -> str:
        try:
            with self._opener.open(request, timeout=pace.allowed(60)) as response:
                if request.get_method() == "GET":
                    assert response.url == request.full_url, "redirected: there is no such page"
                text: str = response.read().decode()
        except HTTPError as exc:
            raise AssertionError(
                f"{request.full_url}: {exc} {exc.read().decode()[:3000]}"
            ) from exc
        return text


def fields(html: str) -> dict[str, str]:
    """The hidden fields of a page's forms."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', html))

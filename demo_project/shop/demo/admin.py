"""The demo's admin: a process that serves it, a user, and a check that it answers."""

from __future__ import annotations

import re
import sys
from http.cookiejar import CookieJar
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

from django.contrib.auth import get_user_model

from demo_project.shop.demo.workers import Worker

USER = PASSWORD = "demo"  # noqa: S105
SERVING = re.compile(r"^serving (http://\S+)$", re.MULTILINE)
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')
SECONDS = 10.0


class Admin(Worker):
    """The web server of the admin; port 8000, or a free one if that is taken."""

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "demo_project.web"]

    @property
    def address(self) -> str:
        """Where the admin is; empty until it is there."""
        found = SERVING.search(self.log.read_text(errors="replace"))
        return found[1] if found else ""

    def is_ready(self) -> bool:
        return bool(self.address)


def create_user() -> None:
    """Make the demo's user, who may do everything."""
    users = get_user_model().objects
    if not users.filter(username=USER).exists():
        users.create_superuser(USER, password=PASSWORD)


def maybe_complete(address: str) -> str:
    """Log in and look at the overview, as a browser would; give what is wrong, if anything is."""
    browser = build_opener(HTTPCookieProcessor(CookieJar()))
    try:
        with browser.open(f"{address}login/", timeout=SECONDS) as page:
            token = TOKEN.search(page.read().decode())
        if token is None:
            return "the admin does not ask who is there"
        form = {"username": USER, "password": PASSWORD, "csrfmiddlewaretoken": token[1]}
        sent = urlencode({**form, "next": "/admin/backbeat_celery/"}).encode()
        with browser.open(f"{address}login/", sent, timeout=SECONDS) as page:
            text = page.read().decode()
    except (URLError, TimeoutError) as exc:
        return f"the admin does not answer: {exc}"
    return "" if "Attempts in the last hour" in text else "the admin does not show its overview"

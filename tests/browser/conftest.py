"""A browser, a server and somebody who is logged in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import axe
from tests.browser.chromium import DESK, chromium, prefer, resize, whereabouts
from tests.browser.look import Look


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in mine:
        item.add_marker(pytest.mark.django_db(transaction=True))
    if mine and (reason := missing()):
        if os.environ.get("CI") == "true":
            pytest.exit(f"FAILED: {reason}", returncode=3)
        for item in mine:
            item.add_marker(pytest.mark.skip(reason=reason))


def missing() -> str:
    """What there is not, and how to get it; empty if everything is there."""
    try:
        import selenium  # noqa: F401
    except ImportError as exc:
        return f"no {exc.name}: pip install 'backbeat-celery[browser]'"
    if not axe.is_there():
        return "no axe-core: install npm, which fetches it"
    return "" if whereabouts() else "no browser: apt-get install chromium chromium-driver"


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def look(driver: Any, live_server: Any, admin_client: Any) -> Iterator[Look]:
    """Look at pages as a superuser, at a desk, in light colours; no complaint may be left."""
    resize(driver, DESK)
    prefer(driver, "light")
    driver.get(f"{live_server.url}/admin/login/")
    driver.delete_all_cookies()
    driver.execute_script("localStorage.clear()")
    cookie = admin_client.cookies["sessionid"].value
    driver.add_cookie({"name": "sessionid", "value": cookie, "path": "/"})
    driver.get_log("browser")
    look = Look(driver, live_server.url)
    yield look
    driver.get("about:blank")
    complaints = look.complaints()
    assert not complaints


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Tell a scripted handler what to do."""
    from tests import workflows

    def write(function: Callable[[Any], Any], name: str = "main") -> None:
        monkeypatch.setitem(workflows.scripts, name, function)

    return write

"""Take the pictures of the docs anew: `python -m tests.browser.screenshots`.

With a folder and `--all` it takes every page there, at a desk and on a phone, light and dark.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.browser.chromium import DESK, PHONE, chromium, prefer, resize
from tests.browser.server import served

IMAGES = Path(__file__).parents[2] / "docs" / "images"


SHOTS = (
    ("overview", "overview", DESK, False),
    ("workflows", "workflows", DESK, False),
    ("tree", "tree", DESK, False),
    ("tree-dark", "tree-wide", DESK, True),
    ("tree-phone", "tree-wide", PHONE, True),
    ("node", "node", DESK, False),
    ("confirm", "confirm", DESK, False),
)
"""The pictures of the docs: name, page, size, and whether in the dark."""


def main(folder: Path, *, every: bool) -> None:
    with tempfile.TemporaryDirectory() as data:
        os.environ["BACKBEAT_DEMO_DIR"] = data
        os.environ["DJANGO_SETTINGS_MODULE"] = "demo_project.settings"
        import django

        django.setup()
        from django.conf import settings
        from django.core.management import call_command

        from tests.browser.scene import BusyShop

        settings.BACKBEAT = {"REDACT": ["card"], "SWEEP_INTERVAL": 30}
        logging.disable()
        call_command("migrate", verbosity=0)
        folder.mkdir(parents=True, exist_ok=True)
        with BusyShop() as shop:
            shop.play()
            with served() as address, chromium() as driver:
                log_in(driver, address)
                urls = addresses(address)
                for name, page, size, dark in everything(urls) if every else SHOTS:
                    take(driver, urls[page], folder / f"{name}.png", size, dark)


def everything(urls: dict[str, str]) -> Iterator[tuple[str, str, tuple[int, int], bool]]:
    """Each page, at a desk and on a phone, light and dark: for those who work on them."""
    for dark in (False, True):
        for size, kind in ((DESK, ""), (PHONE, "-phone")):
            for page in urls:
                yield f"{page}{kind}{'-dark' if dark else ''}", page, size, dark


def addresses(address: str) -> dict[str, str]:
    from backbeat_celery.models import Node, Workflow

    failed = Node.objects.filter(status="failed").first()
    newsletter = Workflow.objects.get(subject="newsletter 12")
    sold = Node.objects.filter(name__endswith="make_purchase", retries=1, status="complete")
    tree = sold.latest("created_at").workflow
    base = f"{address}/admin/backbeat_celery"
    return {
        "overview": f"{base}/",
        "workflows": f"{base}/workflow/",
        "tree": f"{base}/workflow/{tree.pk}/change/",
        "tree-wide": f"{base}/workflow/{newsletter.pk}/change/",
        "tree-failed": f"{base}/workflow/{failed.workflow_id}/change/",
        "node": f"{base}/node/{failed.pk}/change/",
        "nodes": f"{base}/node/?status=failed",
        "subject": f"{address}/admin/shop/camera/2/change/",
        "confirm": f"{base}/node/{failed.pk}/act/shutdown/",
        "signal": f"{base}/workflow/{tree.pk}/act/signal/",
    }


def take(driver: Any, url: str, path: Path, size: tuple[int, int], dark: bool) -> None:
    prefer(driver, "dark" if dark else "light")
    resize(driver, size)
    driver.get(url)
    driver.save_screenshot(str(path))
    if shutil.which("pngquant"):  # a third of the size, and no difference to be seen
        subprocess.run(["pngquant", "--force", "--ext", ".png", "128", str(path)], check=True)


def log_in(driver: Any, address: str) -> None:
    from tests.browser.scene import PASSWORD, USER

    driver.get(f"{address}/admin/login/")
    driver.find_element("id", "id_username").send_keys(USER)
    driver.find_element("id", "id_password").send_keys(PASSWORD)
    driver.find_element("css selector", "[type=submit]").click()


if __name__ == "__main__":
    chosen = [arg for arg in sys.argv[1:] if arg != "--all"]
    main(Path(chosen[0]) if chosen else IMAGES, every="--all" in sys.argv)

"""Debian's Chromium, headless and without a word to anybody but this machine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)
DESK = (1280, 900)
PHONE = (390, 844)


def whereabouts() -> tuple[str, str] | None:
    """The paths of the browser and its driver, if both are installed."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextmanager
def chromium(
    size: tuple[int, int] = DESK, *, scale: float = 1, dark: bool = False
) -> Iterator[Any]:
    """Run a browser of its own with a profile of its own."""
    from selenium import webdriver

    found = whereabouts()
    assert found is not None
    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    with tempfile.TemporaryDirectory() as profile:
        for switch in (*SWITCHES, f"--user-data-dir={profile}"):
            options.add_argument(switch)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options, webdriver.ChromeService(found[1]))
        try:
            resize(driver, size, scale)
            if dark:
                prefer(driver, "dark")
            yield driver
        finally:
            driver.quit()


def resize(driver: Any, size: tuple[int, int], scale: float = 1) -> None:
    """Give the page this many pixels, as a screen or a phone has."""
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": scale, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def prefer(driver: Any, scheme: str) -> None:
    """Ask for light or dark colours, as a system does."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

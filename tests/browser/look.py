"""What a person does with a page: look, click, type and press keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.browser import axe
from tests.waiting import until

STOCK = (".breadcrumbs", "#toolbar")
"""Parts of Django's own admin of which axe complains on every page of every model."""

IGNORED = ("favicon.ico",)


class Look:
    """A person before a browser."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver, self.address = driver, address
        self._seen: list[str] = []

    def at(self, path: str) -> Look:
        """Go to a page of the admin."""
        self.driver.get(f"{self.address}/admin/{path}")
        return self

    def at_tree(self, workflow: Any, query: str = "") -> Look:
        return self.at(f"backbeat_celery/workflow/{workflow.pk}/change/{query}")

    def at_node(self, node: Any) -> Look:
        return self.at(f"backbeat_celery/node/{node.pk}/change/")

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def one(self, selector: str) -> Any:
        """The first such element, as soon as it is there."""
        self.wait(lambda: self.all(selector))
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str = "body") -> str:
        return str(self.one(selector).text)

    def click(self, selector: str) -> None:
        self.one(selector).click()

    def follow(self, link: Any) -> None:
        """Click on what leads to another page, and wait until all of that is there.

        The driver waits by itself only if the browser has set out before the click returns.
        """
        link = self.one(link) if isinstance(link, str) else link
        self.run("window.left = true")
        link.click()
        self.wait(lambda: self.run("return !window.left && document.readyState === 'complete'"))

    def press(self, *keys: str) -> None:
        self.driver.switch_to.active_element.send_keys(*keys)

    @property
    def focused(self) -> str:
        """The id of what has the focus."""
        return str(self.run("return document.activeElement.id"))

    def run(self, script: str, *args: Any) -> Any:
        return self.driver.execute_script(script, *args)

    def wait(self, condition: Callable[[], Any], seconds: float = 20) -> None:
        """Wait until something is to be seen."""
        from selenium.common.exceptions import StaleElementReferenceException

        def is_so() -> bool:
            try:
                return bool(condition())
            except StaleElementReferenceException:
                return False

        until(is_so, seconds, lambda: self.run("return document.body.innerText")[:2000])

    def complaints(self) -> list[str]:
        """What the browser has written to its console, the Content-Security-Policy's above all."""
        self._seen += [entry["message"] for entry in self.driver.get_log("browser")]
        return [text for text in self._seen if not any(word in text for word in IGNORED)]

    def violations(self) -> list[str]:
        """What axe finds wrong with the page for people who do not see or hear well."""
        self.complaints()
        # By the debugger, past the page's policy: axe is no part of the page.
        self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": axe.source()})
        found = self.driver.execute_async_script(
            "const [stock, done] = arguments;"
            "axe.run({exclude: stock}, {resultTypes: ['violations']})"
            ".then(found => done(found.violations))",
            [[part] for part in STOCK],
        )
        # What axe itself does to measure colours is not allowed to pages, rightly.
        self.driver.get_log("browser")
        return [
            f"{problem['id']}: {node['target']} {node['html'][:160]} {node.get('failureSummary')}"
            for problem in found
            for node in problem["nodes"]
        ]

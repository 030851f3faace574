"""The output of the demo: live trees on a terminal, one line per event elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections import deque

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from demo_project.shop.demo.events import Events
from demo_project.shop.demo.pictures import draw
from demo_project.shop.demo.story import Plot

SHOWN = 6
"""Events shown below the live trees."""


class Screen:
    """One line an event, for pipes, logs and CI."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._start = time.monotonic()
        self._events: Events | None = None
        self.plot: Plot | None = None

    @property
    def seconds(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self._start

    def say(self, text: str, style: str = "") -> None:
        """Print a line that stays."""
        self.console.print(Text(text, style=style), soft_wrap=True)

    def follow(self, plot: Plot) -> None:
        """From now on show these workflows."""
        self.plot, self._events = plot, Events(plot)

    def tell(self, text: str) -> None:
        """Show something that has happened."""
        self.say(f"{self.seconds:5.1f} s  {text}")

    def announce(self, text: str) -> None:
        """Show something that has happened and must not be overlooked."""
        self.say(f"{self.seconds:5.1f} s  {text}", style="bold red")

    def update(self) -> None:
        """Show what is new."""
        for event in self._events.new() if self._events else ():
            self.tell(event)

    def close(self) -> None:
        """Show how the trees stand, for good."""
        if self.plot is not None:
            self.update()
            self.console.print(draw(self.plot, self.console.width))
            self.plot = self._events = None

    def abandon(self) -> None:
        """Leave the terminal in order."""


class LiveScreen(Screen):
    """The trees as they stand, drawn again and again in the same place."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._recent: deque[str] = deque(maxlen=SHOWN)
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def follow(self, plot: Plot) -> None:
        super().follow(plot)
        self._live.start()

    def tell(self, text: str) -> None:
        if self.plot is None:
            super().tell(text)
        self._recent.append(f"{self.seconds:5.1f} s  {text}")

    def update(self) -> None:
        super().update()
        if self.plot is None:
            return
        events = Text("\n".join(self._recent), style="dim", no_wrap=True, overflow="ellipsis")
        trees = draw(self.plot, *self.console.size)
        self._live.update(Group(trees, "", events), refresh=True)

    def close(self) -> None:
        self._live.stop()
        super().close()

    def abandon(self) -> None:
        self._live.stop()


def is_interactive() -> bool:
    """Whether the demo runs in a terminal, with a user who can press Ctrl-C."""
    return sys.stdin.isatty() and sys.stdout.isatty() and not os.environ.get("CI")


def open_screen() -> Screen:
    """The screen for this output."""
    screen = open_plain_screen()
    if is_interactive() and not screen.console.is_dumb_terminal:
        return LiveScreen(screen.console)
    return screen


def open_plain_screen() -> Screen:
    """A screen that prints one thing after the other, wherever the output goes."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace", line_buffering=True)
    return Screen(Console(highlight=False))

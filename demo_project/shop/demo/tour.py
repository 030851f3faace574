"""The demo from the first line to the last."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from django.conf import settings

from demo_project import celery
from demo_project.shop.demo import calendar, data, story
from demo_project.shop.demo.admin import PASSWORD, USER, Admin, create_user, maybe_complete
from demo_project.shop.demo.interrupts import Interrupted, Interrupts
from demo_project.shop.demo.screen import is_interactive, open_screen
from demo_project.shop.demo.verdict import Wrong, problems
from demo_project.shop.demo.workers import Crew

READY_SECONDS = 40.0
CRASH_SECONDS = 20.0
BEAT_SECONDS = 30.0
STORY_SECONDS = 60.0


class Tour:
    """One run of the demo."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._leaves = options["exit"] or not is_interactive()
        self._interrupts = Interrupts()
        self._screen = open_screen()

    def run(self) -> int:
        """Run it all; give the exit status."""
        if self._options["broker"]:
            celery.use_broker(self._options["broker"])
        broker = data.broker_name()
        with data.locked_folder() as folder:
            self._interrupts.catch()
            crew = Crew(folder)
            try:
                return self._in_folder(folder, crew, broker)
            except Interrupted as exc:
                return exc.status
            finally:
                self._screen.abandon()
                if crew.alive:
                    self._screen.say("\nStopping the workers …")
                crew.stop()
                data.delete_queue()
                self._interrupts.ignore()

    def _in_folder(self, folder: Path, crew: Crew, broker: str) -> int:
        stay = "" if self._leaves else " · Ctrl-C stops everything"
        self._screen.say(f"backbeat demo · data in {_shown(folder)}/ · broker {broker}{stay}")
        data.prepare(folder, keep=self._options["keep"])
        create_user()
        self._screen.tell("✔ database migrated")
        self._interrupts.check()
        cameras, started = story.stock_up(), calendar.Started()
        admin = Admin("admin", folder)
        crew.others.append(admin)
        if not self._start(crew):
            return self._report([Wrong("the workers did not start")], crew)
        self._wait_for_beat(started)
        plot = story.begin(cameras, started)
        self._screen.follow(plot)
        wrongs = self._watch(plot, crew)
        self._screen.close()
        status = self._report(wrongs or problems(plot) or self._look_at(admin), crew, plot)
        self._screen.say(
            f"\nSee it in the admin: {admin.address}  user {USER}, password {PASSWORD}", "bold"
        )
        if not self._leaves:
            self._stay()
        return status

    def _start(self, crew: Crew) -> bool:
        for _ in range(self._options["workers"]):
            crew.hire()
        crew.start_beat()
        if not self._interrupts.wait_until(crew.are_ready, READY_SECONDS) or crew.fallen:
            return False
        for worker in crew.all:
            self._screen.tell(f"✔ worker {worker.name} is ready (2 processes)")
        return True

    def _look_at(self, admin: Admin) -> list[Wrong]:
        """Open the admin once, as a user will."""
        if not self._interrupts.wait_until(admin.is_ready, READY_SECONDS):
            return [Wrong("the admin was not served", admin.hostname)]
        wrong = maybe_complete(admin.address)
        return [Wrong(wrong, admin.hostname)] if wrong else []

    def _wait_for_beat(self, started: calendar.Started) -> None:
        """Let the calendar come first: the killed worker may have its message in hand.

        Whether it came out right is for the verdict to say.
        """
        if self._interrupts.wait_until(started.are_finished, BEAT_SECONDS):
            self._screen.tell(
                f"✔ beat has fired “{calendar.ONCE}”, and its workflow is "
                f"{started.nodes[0].status}: {started.nodes[0].workflow.subject}"
            )

    def _watch(self, plot: story.Plot, crew: Crew) -> list[Wrong]:
        """Show the story until it is over, with the crash in its middle."""

        def is_over() -> bool:
            self._screen.update()
            return plot.is_over() or bool(crew.fallen)

        if not self._options["no_crash"]:
            crash = story.crash(plot, crew, self._interrupts, self._screen.update, CRASH_SECONDS)
            if crash is None:
                return [Wrong("no handler was caught in the middle, so no worker was killed")]
            self._screen.announce(
                f"☠ killed worker {crash.worker.name} in the middle of make_purchase, "
                "after the money was reserved"
            )
        self._interrupts.wait_until(is_over, STORY_SECONDS)
        return [Wrong(f"worker {w.name} has ended by itself", w.hostname) for w in crew.fallen]

    def _report(self, wrongs: list[Wrong], crew: Crew, plot: story.Plot | None = None) -> int:
        if wrongs or plot is None:
            self._blame(wrongs, crew)
            return 1
        failed = sum(len(order.errors) for order in plot.orders)
        crash = plot.crash
        self._screen.say(
            f"\n✔ All right after {self._screen.seconds:.0f} s: {len(plot.orders)} cameras paid "
            f"exactly once, {failed} failed attempts retried, "
            + (
                f"worker {crash.worker.name} killed and its work done by another, "
                if crash
                else ""
            )
            + f"{story.READERS} readers written to once, the barrier after all of them, "
            "and a stock report started by the calendar.",
            style="bold green",
        )
        self._screen.say(_next_steps())
        return 0

    def _blame(self, wrongs: list[Wrong], crew: Crew) -> None:
        for wrong in wrongs[:20]:
            self._screen.say(f"✖ {wrong}", style="bold red")
        named = [crew.named(wrong.hostname) for wrong in wrongs]
        guilty = list(dict.fromkeys(worker for worker in named if worker)) or crew.all
        for worker in guilty[:2]:
            self._screen.say(f"\nThe last lines of {_shown(worker.log)}:\n{worker.tail()}")

    def _stay(self) -> None:
        self._screen.say("The workers and the admin go on. Ctrl-C stops them.")
        while True:
            self._interrupts.wait_until(lambda: False, 3600)


def _shown(path: Path) -> str:
    base = Path(settings.BASE_DIR)
    return str(path.relative_to(base) if path.is_relative_to(base) else path)


def _next_steps() -> str:
    python = shlex.quote(_shown(Path(sys.executable)))
    return (
        "\nNext:\n"
        "  read   demo_project/shop/tasks.py, the handlers you have just seen: about 80 lines\n"
        f"  look   {python} manage.py backbeat_tree --limit 20\n"
        f"  ask    {python} manage.py backbeat_doctor\n"
        f"  steer  {python} manage.py backbeat_walk\n"
        "  logs   .demo/*.log\n"
        "  test   tox run\n"
        "  use    README.md"
    )

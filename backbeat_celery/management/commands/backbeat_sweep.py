"""Run sweeper passes, in addition to those of the workers."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connections

from backbeat_celery.conf import settings
from backbeat_celery.engine.repair.sweep import Sweep
from backbeat_celery.management.parsing import add_database, at_least, database


class Command(BaseCommand):
    help = "Repair what is due, lost or overdue, as the workers' sweeper does."

    def add_arguments(self, parser: CommandParser) -> None:
        how = parser.add_mutually_exclusive_group()
        how.add_argument(
            "--passes", type=at_least(1), default=1, metavar="N", help="how many; default 1"
        )
        how.add_argument("--loop", action="store_true", help="repeat every SWEEP_INTERVAL seconds")
        add_database(parser)

    def handle(self, **options: Any) -> None:
        sweep = Sweep(database(options))
        left = options["passes"]
        try:
            while True:
                self._run(sweep)
                left -= 1
                if not left and not options["loop"]:
                    return
                if options["loop"]:
                    # After a failover a session that still works may stay read-only.
                    if not connections[sweep.using].in_atomic_block:
                        connections[sweep.using].close()
                    time.sleep(settings.sweep_interval)
        except KeyboardInterrupt:
            self.stdout.write("Stopped.")

    def _run(self, sweep: Sweep) -> None:
        repaired = +sweep.run()
        words = [f"{name} {count}" for name, count in repaired.items()]
        self.stdout.write(f"Repaired: {', '.join(words)}." if words else "Nothing to repair.")
        self.stdout.flush()

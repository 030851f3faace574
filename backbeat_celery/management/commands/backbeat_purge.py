"""Delete what has been finished for longer than the retention."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from backbeat_celery.conf import settings
from backbeat_celery.management.parsing import add_database, at_least, database
from backbeat_celery.retention.deletion import BATCH
from backbeat_celery.retention.purge import PurgeCounts, purge, tops_to_purge

WIDTH = 30


class Command(BaseCommand):
    help = "Delete finished workflows, and finished signals of open ones, after their retention."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument(
            "--older-than",
            type=at_least(0, float),
            metavar="DAYS",
            help="default: the setting RETENTION",
        )
        parser.add_argument(
            "--batch",
            type=at_least(1),
            default=BATCH,
            metavar="N",
            help=f"nodes a transaction; default {BATCH}",
        )
        add_database(parser)

    def handle(self, **options: Any) -> None:
        using, days = database(options), options["older_than"]
        total = tops_to_purge(using, days) if self.stderr.isatty() else 0
        counts = purge(
            using,
            days=days,
            batch=options["batch"],
            dry_run=options["dry_run"],
            on_progress=(lambda so_far: self._draw(so_far, total)) if total else None,
        )
        if total:
            self.stderr.write("\r" + " " * (WIDTH + 50) + "\r", ending="")
        words = ", ".join(f"{count} {name}" for name, count in asdict(counts).items())
        done = "Would delete" if options["dry_run"] else "Deleted"
        kept = settings.retention if days is None else days
        self.stdout.write(f"{done} what was finished for more than {kept:g} days: {words}.")

    def _draw(self, counts: PurgeCounts, total: int) -> None:
        done = min(1.0, (counts.workflows + counts.signals) / total)
        filled = round(done * WIDTH)
        bar = "█" * filled + "░" * (WIDTH - filled)
        self.stderr.write(f"\r{bar} {done:4.0%} {counts.nodes} nodes", ending="")
        self.stderr.flush()

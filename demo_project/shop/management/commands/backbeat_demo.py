"""Show durable workflows at work: `tox run -e demo`, or `manage.py backbeat_demo`."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = "Start workers, sell cameras, kill a worker, and check that everything came out right."
    requires_system_checks = ["backbeat_celery"]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--exit", action="store_true", help="leave at the end; 0 only if all is right"
        )
        parser.add_argument("--broker", metavar="URL", help="redis:// or amqp://; default: SQLite")
        parser.add_argument("--workers", type=int, default=2, metavar="N", help="default: 2")
        parser.add_argument("--no-crash", action="store_true", help="kill no worker")
        parser.add_argument("--keep", action="store_true", help="keep what earlier runs have left")

    def handle(self, **options: Any) -> None:
        if options["workers"] < 1:
            raise CommandError("--workers must be at least 1.")
        try:
            from demo_project.shop.demo.tour import Tour
        except ImportError as exc:
            raise CommandError(
                f"The demo needs more packages ({exc}): pip install 'backbeat-celery[demo]'"
            ) from exc
        sys.exit(Tour(options).run())

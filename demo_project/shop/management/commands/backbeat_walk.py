"""Steer real nodes on real workers, verb by verb: `tox run -e walk`."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from demo_project.shop.demo.walk import Walk


class Command(BaseCommand):
    help = "Pause, resume, retry, resolve, shut down, cancel and close, with the tree after each."
    requires_system_checks = ["backbeat_celery"]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--broker", metavar="URL", help="redis:// or amqp://; default: SQLite")

    def handle(self, **options: Any) -> None:
        sys.exit(Walk(options).run())

"""Check every invariant, and repair what can be repaired."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from backbeat_celery.inspection.doctor import CHECKS, MOST, DoctorReport, examine
from backbeat_celery.management.parsing import add_database, at_least, database


class Command(BaseCommand):
    help = "Find rows that break an invariant. Exits with 1 if something remains broken."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--fix", action="store_true", help="repair what is safe to repair")
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument(
            "--wait",
            type=at_least(0, float),
            metavar="SECONDS",
            help="check again after SECONDS what the sweeper repairs by itself; "
            "default: two sweep intervals",
        )
        parser.add_argument(
            "--most",
            type=at_least(1),
            default=MOST,
            metavar="N",
            help=f"findings of each check; default {MOST}",
        )
        add_database(parser)

    def handle(self, **options: Any) -> None:
        report = examine(
            database(options), fix=options["fix"], wait=options["wait"], most=options["most"]
        )
        if options["json"]:
            self._print_json(report)
        else:
            self._print(report)
        if not report.is_healthy:
            sys.exit(1)

    def _print_json(self, report: DoctorReport) -> None:
        data = {
            "healthy": report.is_healthy,
            "checks": len(CHECKS),
            "findings": [asdict(found) for found in report.findings],
            "more": sorted(report.more),
        }
        self.stdout.write(json.dumps(data, indent=2, ensure_ascii=False))

    def _print(self, report: DoctorReport) -> None:
        for found in report.findings:
            if found.is_fixed:
                style = self.style.SUCCESS
            else:
                style = self.style.ERROR if found.is_serious else self.style.WARNING
            self.stdout.write(style(str(found)))
        for name in sorted(report.more):
            self.stdout.write(f"{name}: there are more; repair these and check again.")
        fixed = sum(found.is_fixed for found in report.findings)
        hints = sum(not found.is_serious for found in report.findings)
        counts = f"{len(report.broken)} broken, {fixed} fixed, {hints} hints"
        self.stdout.write(f"{len(CHECKS)} checks: {counts}.")

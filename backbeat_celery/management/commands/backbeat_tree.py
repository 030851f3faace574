"""Print the trees of workflows, once or repeatedly."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backbeat_celery.inspection.nested_json import nested_json
from backbeat_celery.inspection.tree import draw, takes_color
from backbeat_celery.inspection.tree_reader import TreeNode, tree
from backbeat_celery.management.parsing import add_database, at_least, database, node_id
from backbeat_celery.models import Node, Workflow
from backbeat_celery.states import Status

Start = Workflow | Node
CLEAR = "\x1b[H\x1b[2J\x1b[3J"


class Command(BaseCommand):
    help = "Print the trees of workflows: names, statuses, retries, times and progress."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "ids", nargs="*", metavar="ID", help="of workflows, nodes or Celery messages"
        )
        parser.add_argument("--subject", help="only workflows about this subject")
        parser.add_argument("--name", help="only workflows of this name")
        parser.add_argument("--all", action="store_true", help="finished workflows as well")
        parser.add_argument(
            "--status",
            action="append",
            default=[],
            choices=list(Status.values),
            help="only nodes of this status, with those above them; may be repeated",
        )
        parser.add_argument("--task", default="", help="only nodes that call this task")
        parser.add_argument(
            "--limit", type=at_least(1), default=200, metavar="N", help="nodes a tree; default 200"
        )
        parser.add_argument(
            "--workflows", type=at_least(1), default=20, metavar="N", help="default: the last 20"
        )
        parser.add_argument("--explain", action="store_true", help="say what each waits for")
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument(
            "--watch",
            nargs="?",
            type=at_least(0.1, float),
            const=1.0,
            metavar="SECONDS",
            help="print again every SECONDS (1) until all are finished or Ctrl-C",
        )
        add_database(parser)

    def handle(self, **options: Any) -> None:
        if options["json"] and options["watch"]:
            raise CommandError("--watch prints text; leave out --json.")
        try:
            while True:
                starts = self._starts(options)
                self._show(starts, options)
                if not options["watch"] or all(_is_finished(start) for start in starts):
                    return
                time.sleep(options["watch"])
        except KeyboardInterrupt:
            self.stdout.write("")

    def _starts(self, options: dict[str, Any]) -> Sequence[Start]:
        using = database(options)
        if options["ids"]:
            return [start for text in options["ids"] for start in self._named(text, using)]
        rows = Workflow.objects.using(using).order_by("-created_at", "-pk")
        for field in ("name", "subject"):
            if options[field] is not None:
                rows = rows.filter(**{field: options[field]})
        if not options["all"]:
            rows = rows.filter(unfinished=True)
        if options["status"]:
            nodes = Node.objects.using(using).filter(
                parent__isnull=False, status__in=options["status"]
            )
            rows = rows.filter(pk__in=nodes.values("workflow_id"))
        return list(rows[: options["workflows"]])

    def _named(self, text: str, using: str) -> Sequence[Start]:
        pk = node_id(text)
        workflows, nodes = Workflow.objects.using(using), Node.objects.using(using)
        found: list[Start] = [*workflows.filter(pk=pk)]
        found = found or [*nodes.filter(pk=pk)]
        found = found or [*nodes.for_task_id(str(pk)).order_by("pk")]
        if not found:
            raise CommandError(
                f"No workflow, no node and no attempt of one in {using!r} has the id {text}."
            )
        return found

    def _show(self, starts: Sequence[Start], options: dict[str, Any]) -> None:
        wanted = {
            "limit": options["limit"],
            "statuses": options["status"],
            "task": options["task"],
        }
        branches = [(start, tree(start, **wanted)) for start in starts]
        if options["json"]:
            data = [_plain(start, branch, options["explain"]) for start, branch in branches]
            self.stdout.write(nested_json(data))
            return
        color = self._is_colored(options)
        pictures = [
            draw(branch, start, color) + (f"\n   {start.explain()}" if options["explain"] else "")
            for start, branch in branches
        ]
        if options["watch"] and self.stdout.isatty():
            self.stdout.write(CLEAR, ending="")
        self.stdout.write("\n\n".join(pictures) or "No workflow matches.")
        if options["watch"]:
            self.stdout.flush()

    def _is_colored(self, options: dict[str, Any]) -> bool:
        if options["force_color"]:
            return True
        return not options["no_color"] and takes_color(self.stdout)


def _is_finished(start: Start) -> bool:
    return start.is_finished if isinstance(start, Node) else start.unfinished is None


def _plain(start: Start, branch: TreeNode, explained: bool) -> dict[str, Any]:
    data = branch.as_dict()
    if isinstance(start, Workflow):
        times = ("paused_at", "closed_at", "created_at", "finished_at")
        data = {
            "id": str(start.pk),
            "name": start.name,
            "subject": start.subject,
            "run": start.run,
            **{name: (time := getattr(start, name)) and time.isoformat() for name in times},
            "root": data,
        }
    if explained:
        data["explanation"] = start.explain()
    return data

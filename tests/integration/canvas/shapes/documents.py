"""Shapes 1 and 2: a document is split into others, or several become one."""

from __future__ import annotations

from typing import Any

from celery import chord, group, shared_task

from tests.integration.canvas import world


class Unreadable(Exception):
    """The file is damaged."""


@shared_task(bind=True, name="documents.consume")
def consume(self: Any, path: str, overrides: dict[str, Any] | None = None) -> str:
    source = (self.request.headers or {}).get("trigger_source")
    world.note("consume", path, overrides, source)
    if path in world.get("damaged", []):
        raise Unreadable(path)
    return f"{path} is consumed"


@shared_task(name="documents.delete")
def delete(ids: list[int]) -> None:
    world.note("delete", ids)


@shared_task(bind=True, name="documents.restore")
def restore(self: Any, *args: Any, **kwargs: Any) -> None:
    """Whatever it is called with: the id of what failed, and then the stored arguments."""
    world.note("restore", list(args), kwargs)


def parts(count: int) -> list[Any]:
    return [
        consume.s(f"part {n}", overrides={"title": f"Part {n}"}).set(
            headers={"trigger_source": "web"}
        )
        for n in range(1, count + 1)
    ]


def split(document: int, count: int, numbers: dict[int, str], *, keep: bool = False) -> Any:
    if keep:
        return group(parts(count))
    return chord(parts(count), delete.si([document])).on_error(restore.s(numbers))


def merged(numbers: dict[int, str]) -> tuple[Any, dict[str, Any]]:
    """One task, with its callbacks as options of the call."""
    task = consume.s("merged").set(headers={"trigger_source": "web"})
    ids = list(numbers)
    return task, {"link": [delete.si(ids)], "link_error": [restore.s(numbers)]}

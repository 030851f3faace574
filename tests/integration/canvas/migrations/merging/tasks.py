"""Documents become one: each is rendered, the merged one is stored, the old ones are deleted."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from tests.integration.canvas import world


class Damaged(Exception):
    """The document cannot be rendered."""


@shared_task(name="merging.render")
def render(document: int, dpi: int = 150) -> str:
    world.note("render", document, dpi)
    if document in world.get("damaged", []):
        raise Damaged(document)
    return f"<{document}>"


@shared_task(bind=True, name="merging.merge")
def merge(self: Any, rendered: list[str], title: str) -> str:
    world.note("merge", rendered, title)
    if world.get("is_full"):
        raise OSError(28, "No space left on device")
    return f"{title}: {''.join(rendered)}"


@shared_task(name="merging.delete")
def delete(documents: list[int]) -> None:
    world.note("delete", documents)


@shared_task(name="merging.restore")
def restore(task_id: str, numbers: dict[str, str]) -> None:
    world.note("restore", numbers)

"""Shape 14: a step of a running chain replaces itself by a chord."""

from __future__ import annotations

from typing import Any

from celery import chain, chord, group, shared_task, signature

from tests.integration.canvas import world

AGAIN: dict[str, Any] = {
    "autoretry_for": (Exception,),
    "retry_kwargs": {"max_retries": 2, "countdown": 0},
}


class Blurred(Exception):
    """Nothing can be read on the page."""


@shared_task(name="pages.cut", **AGAIN)
def cut(document: str, count: int) -> dict[str, Any]:
    return {"document": document, "pages": list(range(1, count + 1))}


@shared_task(bind=True, name="pages.fan_out", **AGAIN)
def fan_out(self: Any, found: dict[str, Any]) -> Any:
    world.note("fan_out", len(found["pages"]))
    document, pages = found["document"], found["pages"]
    if not pages:
        return {"document": document, "text": ""}
    reads = [signature("pages.read", args=(document, page)) for page in pages]
    raise self.replace(chord(group(reads), signature("pages.collect", args=(document,))))


@shared_task(name="pages.read", **AGAIN)
def read(document: str, page: int) -> str:
    world.note("read", page)
    if page in world.get("blurred", []):
        raise Blurred(document, page)
    return f"{page}"


@shared_task(name="pages.collect", **AGAIN)
def collect(texts: list[str], document: str) -> dict[str, Any]:
    world.note("collect", len(texts))
    return {"document": document, "text": " ".join(texts)}


@shared_task(name="pages.store")
def store(found: dict[str, Any]) -> str:
    world.note("store", found["document"])
    return str(found["text"])


def recognised(document: str, count: int) -> Any:
    return chain(cut.s(document, count), fan_out.s(), store.s())

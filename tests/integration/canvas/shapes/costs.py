"""Shape 10: reports are downloaded, and then summed up by a group of four."""

from __future__ import annotations

from typing import Any

from celery import chord, group, shared_task

from tests.integration.canvas import world

Found = list[str | None]


@shared_task(name="costs.download")
def download(
    customer: str,
    credentials: str,
    source: str,
    kind: str,
    schema: str,
    provider: str,
    month: str,
    context: dict[str, Any],
    tracing_id: str = "",
    attempts: int = 0,
    is_last: bool = False,
) -> str | None:
    world.note("download", month, context, tracing_id, is_last)
    return None if month in world.get("empty", []) else f"{schema} {month}"


def totalled(what: str, found: Found, *values: Any) -> str:
    world.note(what, found, *values)
    if what in world.get("broken", []):
        raise ArithmeticError(what)
    return f"{what} of {len(found)}"


@shared_task(name="costs.summary")
def summary(found: Found, manifests: list[int] | None = None) -> str:
    return totalled("summary", found, manifests)


@shared_task(name="costs.instances")
def instances(found: Found) -> str:
    return totalled("instances", found)


@shared_task(name="costs.licences")
def licences(found: Found, schema: str) -> str:
    return totalled("licences", found, schema)


@shared_task(name="costs.warehouse")
def warehouse(found: Found, simulate: bool = False) -> str:
    return totalled("warehouse", found, simulate)


def downloads(months: list[str]) -> list[Any]:
    """One dictionary for all of them, which changes on the way."""
    context: dict[str, Any] = {}
    made = []
    for month in months:
        context["month"], context["count"] = month, len(made) + 1
        account = ("acme", "role", "bill", "AWS", "org7", "uuid")
        options = {"tracing_id": f"t-{month}", "attempts": 1, "is_last": month == months[-1]}
        made.append(download.s(*account, month, context, **options).set(queue="large"))
    return made


def reported(months: list[str], *, only_download: bool = False) -> Any:
    if only_download:
        return group(downloads(months))
    return chord(
        downloads(months),
        group(
            summary.s(manifests=[1, 2]).set(queue="second"),
            instances.s().set(queue="small"),
            licences.s("org7").set(queue="large"),
            warehouse.s(simulate=True).set(queue="second"),
        ),
    )

"""An upload is checked: findings go from step to step, and three scans run side by side."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from tests.integration.canvas import world

Findings = dict[str, Any]


class Infected(Exception):
    """A virus was found."""


class Refused(Exception):
    """The upload is not published."""


@shared_task(name="checking.receive")
def receive(upload: int) -> Findings:
    return {"upload": upload, "steps": ["receive"]}


@shared_task(name="checking.unpack")
def unpack(findings: Findings, upload: int) -> Findings:
    return {**findings, "steps": [*findings["steps"], f"unpack {upload}"]}


@shared_task(name="checking.virus")
def virus(findings: Findings, upload: int) -> Findings:
    if world.get("virus"):
        raise Infected(upload, world.get("virus"))
    return {**findings, "virus": False}


@shared_task(name="checking.licence")
def licence(findings: Findings, upload: int) -> Findings:
    return {**findings, "licence": "MIT"}


@shared_task(name="checking.size")
def size(findings: Findings, upload: int) -> Findings:
    return {**findings, "size": 703}


@shared_task(name="checking.weigh")
def weigh(all_findings: list[Findings], upload: int) -> Findings:
    world.note("weigh", len(all_findings))
    return {key: value for findings in all_findings for key, value in findings.items()}


@shared_task(name="checking.publish")
def publish(findings: Findings, upload: int) -> Findings:
    world.note("publish", upload)
    if world.get("is_closed"):
        raise Refused(upload)
    return {**findings, "published": True}


@shared_task(name="checking.tell_owner")
def tell_owner(request: Any, exc: Exception, traceback: Any, upload: int) -> None:
    world.note("tell_owner", type(exc).__name__, upload)

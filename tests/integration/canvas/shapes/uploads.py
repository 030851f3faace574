"""Shape 6: an upload is checked by a chain of a list, with a chord inside."""

from __future__ import annotations

from typing import Any

from celery import chain, chord, shared_task

from tests.integration.canvas import world

Results = dict[str, Any]


class Rejected(Exception):
    """The upload is not accepted."""


@shared_task(name="uploads.begin", ignore_result=False)
def begin() -> Results:
    return {"errors": 0, "messages": ["x" * 100 for _ in range(500)], "steps": ["begin"]}


def added(results: Results, step: str) -> Results:
    world.note(step, len(results["messages"]))
    return {**results, "steps": [*results["steps"], step]}


@shared_task(name="uploads.repack", ignore_result=True)
def repack(results: Results, upload: int) -> Results:
    return added(results, f"repack {upload}")


@shared_task(name="uploads.validate", ignore_result=True)
def validate(results: Results, upload: int, channel: int) -> Results:
    return added(results, f"validate {upload} {channel}")


@shared_task(name="uploads.check_keys", ignore_result=True)
def check_keys(results: Results, upload: int) -> Results:
    return added(results, f"keys {upload}")


@shared_task(name="uploads.scan", ignore_result=False, soft_time_limit=60)
def scan(results: Results, upload: int, scanner: str) -> Results:
    return {**results, "steps": [*results["steps"], f"{scanner} {upload}"]}


@shared_task(name="uploads.rate", ignore_result=False)
def rate(all_results: list[Results], upload: int) -> Results:
    world.note("rate", upload, [results["steps"][-1] for results in all_results])
    return added(all_results[0], f"rate {upload}")


@shared_task(name="uploads.save", ignore_result=False)
def save(results: Results, upload: int, channel: int, signed: bool = False) -> Results:
    if world.get("rejects"):
        raise Rejected(upload, {"channel": channel})
    return added(results, f"save {upload} {channel} {signed}")


@shared_task(name="uploads.finish", ignore_result=False)
def finish(upload: int) -> str:
    world.note("finish", upload)
    return f"{upload} is finished"


def checked(upload: int, channel: int, scanners: list[str], *, is_last: bool = False) -> Any:
    scans = [scan.s(upload, scanner) for scanner in scanners]
    steps = [
        *(begin.si(), repack.s(upload), validate.s(upload, channel), check_keys.s(upload)),
        chord(scans, rate.s(upload)),
        save.s(upload, channel, True),
    ]
    return chain(*steps, finish.si(upload)) if is_last else chain(*steps)

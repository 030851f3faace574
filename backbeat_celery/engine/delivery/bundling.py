"""Bundle due nodes of a task into one message, if the task has the option `bundle`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from celery import Task, current_app

from backbeat_celery.engine.after_commit import Publication
from backbeat_celery.engine.delivery.message_templates import group_by_template
from backbeat_celery.runtime.batches import batched


def bundled(publications: Sequence[Publication]) -> list[Publication]:
    """Bundle publications that one message can stand for."""
    if len(publications) < 2:
        return list(publications)
    sent = [one for one in publications if not is_bundleable(one)]
    for alike in group_by_template(filter(is_bundleable, publications)):
        size = bundle_size(alike[0])
        for same in _group_by_headers(alike) if size > 1 else [alike]:
            sent += _bundles(same, size)
    return sent


def is_bundleable(publication: Publication) -> bool:
    return publication.attempt == 1 and not publication.countdown


def _group_by_headers(alike: Sequence[Publication]) -> Iterable[Sequence[Publication]]:
    """Group publications whose messages have the same headers."""
    groups: dict[str, list[Publication]] = defaultdict(list)
    for publication in alike:
        groups[repr(publication.headers)].append(publication)
    return groups.values()


def _bundles(alike: Sequence[Publication], size: int) -> Iterable[Publication]:
    for first, *others in batched(alike, size):
        yield _bundle(first, tuple(other.node_id for other in others)) if others else first


def _bundle(first: Publication, others: tuple[UUID, ...]) -> Publication:
    shown = f"{first.kwargsrepr} and {len(others)} more"
    return replace(first, others=others, kwargsrepr=shown)


def bundle_size(publication: Publication) -> int:
    """Give the largest number of nodes in one message like this.

    It is 1 for a task with rate or time limits: Celery applies them to a message, not to a node.
    """
    task: Task[Any, Any] | None = current_app.tasks.get(publication.task)
    size = getattr(task, "bundle", None) or 1
    limited = {"time_limit", "soft_time_limit"} & publication.options.keys()
    if size == 1 or limited or task is None or _is_limited(task):
        return 1
    return int(size)


def _is_limited(task: Task[Any, Any]) -> bool:
    conf = current_app.conf
    limits = [task.time_limit, task.soft_time_limit, task.rate_limit]
    limits += [conf.task_time_limit, conf.task_soft_time_limit]
    alone = (getattr(task, name, False) for name in ("atomic", "awaits_completion"))
    return any(limits) or any(alone)

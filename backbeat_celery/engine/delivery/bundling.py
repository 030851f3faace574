"""Put due nodes of a task together in one message, where their task has the option `bundle`."""

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
    """Put together what one message can ask for."""
    if len(publications) < 2:
        return list(publications)
    sent = [one for one in publications if not is_bundleable(one)]
    for alike in group_by_template(filter(is_bundleable, publications)):
        size = bundle_size(alike[0])
        for same in _in_one_context(alike) if size > 1 else [alike]:
            sent += _joined(same, size)
    return sent


def is_bundleable(publication: Publication) -> bool:
    return publication.attempt == 1 and not publication.countdown


def _in_one_context(alike: Sequence[Publication]) -> Iterable[Sequence[Publication]]:
    """Those whose message would have the same headers: a message has them once."""
    groups: dict[str, list[Publication]] = defaultdict(list)
    for publication in alike:
        groups[repr(publication.headers)].append(publication)
    return groups.values()


def _joined(alike: Sequence[Publication], size: int) -> Iterable[Publication]:
    for first, *others in batched(alike, size):
        yield _with(first, tuple(other.node_id for other in others)) if others else first


def _with(first: Publication, others: tuple[UUID, ...]) -> Publication:
    shown = f"{first.kwargsrepr} and {len(others)} more"
    return replace(first, others=others, kwargsrepr=shown)


def bundle_size(publication: Publication) -> int:
    """How many nodes a message of this kind may stand for.

    Limits of Celery's that count messages, or watch over one, would be wrong for several.
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

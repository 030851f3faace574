"""Signals that close their run, which takes no more signals after them.

Such a run may be finished before its caller is called again, so a repeated call is recognized by
its key first, and does not open the next run.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from uuid import UUID, uuid5

from backbeat_celery.api import CheckedSignal
from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.engine.running_node import RunningNode
from backbeat_celery.engine.statements.signals import CLOSE_REASON
from backbeat_celery.models import Node, Workflow
from backbeat_celery.runtime import clock
from backbeat_celery.runtime.current_node import running


def as_sent_here(signal: CheckedSignal) -> CheckedSignal:
    """Give a closing signal from a handler the key, and if need be the subject, of each attempt.

    A retry of the attempt then finds the node, whether its run is finished or not.
    """
    node, spec = running.get(), signal.spec
    if not signal.close or spec.key is not None or not isinstance(node, RunningNode):
        return signal
    is_alone = signal.subject == str(spec.id)
    place = None if is_alone else signal.workflow
    # Other signals to the workflow are counted from 0, too.
    key = f"close:{node.next_signal_key(spec.task or spec.name, place, spec.id)}"[:255]
    subject = str(uuid5(node.id, key)) if is_alone else signal.subject
    return replace(signal, subject=subject, spec=replace(spec, key=key), key_lasts=True)


def sent_before(signal: CheckedSignal, using: str) -> Node | None:
    """Find the node of an earlier call with the same key that has closed its run."""
    if not signal.close or signal.spec.key is None:
        return None
    runs = Workflow.objects.using(using).filter(
        name=signal.name, subject=signal.subject, closed_at__isnull=False
    )
    if not signal.key_lasts:
        runs = runs.filter(unfinished=True)
    return Node.objects.using(using).signals_with_key(runs, signal.spec.key).first()


def close_runs(ids: Collection[UUID], using: str) -> AfterCommit:
    """Close runs whose rows and roots this transaction has locked."""
    if not ids:
        return AfterCommit()
    open_runs = Workflow.objects.using(using).filter(pk__in=ids, closed_at=None)
    open_runs.update(closed_at=clock.now(), close_reason=CLOSE_REASON)
    return AfterCommit(maybe_complete=list(ids))

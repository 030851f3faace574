"""Compare what the engine did with what the model says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta

from backbeat_celery.models import Node
from backbeat_celery.testing import Call
from tests.integration.canvas.plays import play
from tests.stateful.canvases import NAME
from tests.stateful.model import Model, counting_subtree


def compare(model: Model, calls: Sequence[Call]) -> None:
    """Check where all nodes ended, which handlers were called, and in which order."""
    fates = model.fates()
    rows = Node.objects.exclude(parent=None).exclude(workflow__name=NAME)
    nodes = {n.metadata["label"]: n for n in rows}
    calls = [call for call in calls if call.task != play.name]
    found = {label: (node.status, node.retries) for label, node in nodes.items()}
    assert found == {label: (fate.status, fate.retries) for label, fate in fates.items()}
    called = {label for label, fate in fates.items() if fate.is_called}
    assert {_label_of(call) for call in calls} == called
    _check_order(model, calls)
    for call in calls:
        delay = timedelta(seconds=model.items[_label_of(call)].delay or 0)
        assert call.at >= nodes[_label_of(call)].created_at + delay


def _check_order(model: Model, calls: Sequence[Call]) -> None:
    """Handlers of a subtree are called before those of what waits for it."""
    times: dict[str, list[int]] = {}
    for index, call in enumerate(calls):
        times.setdefault(_label_of(call), []).append(index)
    lines = [root.line for root in model.roots.values()]
    lines += [item.line for item in model.items.values()]
    for line in lines:
        for position, item in enumerate(line):
            begin = min(times.get(item.label, [sys.maxsize]))
            for other in line[:position]:
                if other.mode == "blocking" or (item.barrier and other.counts):
                    below = [times.get(i.label, [-1]) for i in counting_subtree(other)]
                    assert begin > max(max(indexes) for indexes in below)


def _label_of(call: Call) -> str:
    return str(call.args[0]["label"])

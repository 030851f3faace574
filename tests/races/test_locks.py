"""Rows are locked from the top down, whatever the ids of nodes say."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from backbeat_celery import database, ids, signal
from backbeat_celery.models import Node
from tests import workflows
from tests.races.threads import RACES, start, wait_until_blocked
from tests.races.worker import PARALLEL, status, succeed, taken

pytestmark = RACES


@pytest.fixture
def conflicts(monkeypatch):
    """What the database has refused because two transactions waited for each other."""
    found, is_conflict = [], database.is_conflict

    def noted(exc):
        if is_conflict(exc):
            found.append(exc)
        return is_conflict(exc)

    monkeypatch.setattr(database, "is_conflict", noted)
    return found


def _signal_from_behind(task, **options):
    """Signal from a machine whose clock is behind: the node's id is before its root's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "_last", 0)
        patch.setattr(ids, "time", SimpleNamespace(time_ns=lambda: 10**18))
        return signal(task, **options)


def test_a_cancel_of_several_families_and_a_report_do_not_wait_for_each_other(stops, conflicts):
    side = signal(workflows.done.s(), subject="camera", name="w", mode="non_blocking")
    node = _signal_from_behind(workflows.awaiting.s(), subject="camera", name="w")
    succeed(taken(node), PARALLEL, PARALLEL)
    first, second = node.children.order_by("seq")
    assert node.pk < node.workflow_id

    stop = stops.stop("cancel", "level_canceled")
    cancel = start(second.cancel_previous, "cancel")
    stop.wait()
    report = start(lambda: Node.objects.get(pk=node.pk).complete("said"), "report")
    wait_until_blocked()
    stop.release()
    cancel.result(20)
    report.result(20)
    assert not conflicts
    assert [status(row) for row in (side, first, second)] == ["canceled", "canceled", "queued"]
    assert status(node) == "waiting"
    succeed(taken(second))

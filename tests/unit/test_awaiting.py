"""A report that is kept comes back as it was said."""

from __future__ import annotations

import json

import pytest

from backbeat_celery import signal
from backbeat_celery.engine.awaiting import load_report, store_report
from backbeat_celery.engine.outcomes import Failed, Succeeded
from backbeat_celery.models import Node
from tests.workflows import awaiting

REPORTS = [
    Succeeded(None),
    Succeeded({"paid": [1, 2]}, actor="ada", reason="by phone"),
    Failed("no"),
    Failed("ValueError()", traceback="in line 1", final=True, actor="ada", reason="by phone"),
    Failed.from_exception(ValueError("no", {"cent": [1]}), actor="ada"),
]


@pytest.mark.parametrize("report", REPORTS)
def test_a_kept_report_comes_back(sim, report):
    node = signal(awaiting.s(), subject="camera")
    store_report(node, report)
    assert load_report(Node.objects.get(pk=node.pk).report) == report


def test_what_is_kept_is_plain_json(sim):
    node = signal(awaiting.s(), subject="camera")
    store_report(node, REPORTS[1])
    kept = Node.objects.get(pk=node.pk).report
    assert json.loads(json.dumps(kept)) == kept

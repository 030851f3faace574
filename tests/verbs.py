"""The verbs of a node, each with the statuses that it takes: the table of docs/steering.md."""

from __future__ import annotations

from backbeat_celery.states import UNFINISHED, Status

ALLOWED = {
    "retry": {Status.FAILED: {"queued"}, Status.RETRYING: {"queued"}},
    "resolve": {Status.FAILED: {"complete"}},
    "shutdown": {Status.FAILED: {"complete"}},
    "cancel": {status: {"canceled"} for status in UNFINISHED},
    "reset": {status: {status} for status in UNFINISHED} | {Status.WAITING: {"complete"}},
    "cancel_previous": {status: {status} for status in Status} | {Status.READY: {"queued"}},
}
"""For each verb the statuses that it takes, and the statuses of a node after it."""

ONE_NODE = sorted(ALLOWED.keys() - {"cancel_previous"})
"""Verbs that are about the node itself."""

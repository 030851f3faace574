"""The named points of the engine at which faults strike."""

from __future__ import annotations

POINTS = [
    *("before_claim", "claim_written", "before_handler", "in_handler", "after_handler"),
    *("before_record", "children_inserted", "record_written", "recorded", "after_record"),
    *("before_advance", "looked", "parent_locked", "finish_written", "stage_opened", "joined"),
    *("barrier_opened", "put_off", "taken_due", "failure_written", "repaired", "rescue_called"),
    *("verb_begun", "verb_written", "workflow_steered", "level_canceled"),
    *("sweep_published", "sweep_lost", "sweep_timed_out", "sweep_unknown_task"),
    *("sweep_completed", "sweep_barriers", "sweep_resumed", "sweep_opened", "sweep_canceled"),
]
"""Every point that is passed without a broker."""

IN_WORKERS = [
    *(point for point in POINTS if point not in {"workflow_steered", "level_canceled"}),
    *("before_publish", "sent_one", "after_publish", "before_renewal"),
]
"""Points that real workers pass; the other two are an operator's, in another process."""

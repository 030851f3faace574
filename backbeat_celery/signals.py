"""Django signals about what has ended, sent after the commit and at most once.

`node_completed`, `node_failed`: sender `Node`, argument `node`.
`workflow_completed`: sender `Workflow`, argument `workflow`.

docs/signals.md tells what a receiver may rely on.
"""

from __future__ import annotations

from django.dispatch import Signal

node_completed = Signal()
node_failed = Signal()
workflow_completed = Signal()

"""Remote nodes: send a call to workers of another code base, and receive its result.

Those workers do not have this package or this database. So one of our workers claims the node and
sends the call, and the node awaits completion. The result comes back by Celery's `link` and
`link_error`, with a token of the attempt in the arguments.
"""

from __future__ import annotations

from typing import Any

from celery import Signature
from kombu.exceptions import LimitExceeded, OperationalError

from backbeat_celery.engine.after_commit import message_options, shown_args, shown_kwargs
from backbeat_celery.engine.claim import Claim
from backbeat_celery.engine.delivery.outbox import outbox
from backbeat_celery.engine.outcomes import GivenBack
from backbeat_celery.inputs import tokens
from backbeat_celery.inputs.message_headers import kept
from backbeat_celery.runtime import failpoints
from backbeat_celery.runtime.compat.celery import app_in_use, route_of
from backbeat_celery.runtime.ids import uuid7

REMOTE_DONE = "backbeat.remote_done"
REMOTE_FAILED = "backbeat.remote_failed"


def dispatch(claim: Claim) -> None:
    """Send a remote node's call; raise GivenBack if the broker does not take it."""
    node = claim.node
    # The id of the call, which the logs of the other side show.
    node.task_id = str(uuid7())
    token = tokens.sign(tokens.Ticket(claim.using, node.pk, node.attempt, claim.claim_id))
    try:
        outbox().hand_over(
            node.task,
            args=node.args,
            kwargs=node.kwargs,
            argsrepr=shown_args(node),
            kwargsrepr=shown_kwargs(node),
            task_id=node.task_id,
            ignore_result=True,
            add_to_parent=False,
            link=_callback(REMOTE_DONE, token),
            link_error=_callback(REMOTE_FAILED, token),
            headers=kept(node.options),
            **{"serializer": "json", **message_options(node)},
        )
    except (OperationalError, OSError, LimitExceeded) as exc:
        raise GivenBack(f"The broker did not take the call: {exc!r}") from exc
    failpoints.hit("dispatched")


def _callback(task: str, token: str) -> Signature[Any]:
    """Build the callback that the other side sends to our queue without knowing the task."""
    options = {
        "queue": _our_queue(task),
        # The queue exists. The other side would declare it with its own defaults, which
        # RabbitMQ refuses if they differ from ours.
        "declare": [],
        "serializer": "json",
        "ignore_result": True,
        # Shown by monitors and logs instead of the token, which is a secret.
        "kwargsrepr": "{'token': '***'}",
    }
    return Signature(task, kwargs={"token": token}, options=options)


def _our_queue(task: str) -> str:
    """Name the queue to which this project's routes send a task."""
    queue = route_of(app_in_use(), {}, task)["queue"]
    return str(getattr(queue, "name", queue))

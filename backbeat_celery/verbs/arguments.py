"""Edit the arguments of a node that has failed, and retry it: one transaction.

Hidden values are shown as a mark. Where the mark is left unchanged, so is the value.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils.crypto import salted_hmac

from backbeat_celery.engine.claim import lock_workflow
from backbeat_celery.engine.order.finish import lock_node
from backbeat_celery.exceptions import BadInput, InvalidTransition
from backbeat_celery.inputs import payload
from backbeat_celery.inputs.mapped_tasks import MAP, STARMAP
from backbeat_celery.inputs.node_spec import Call, call_spec, registered_task
from backbeat_celery.inputs.redaction import HIDDEN, given_arguments
from backbeat_celery.models import Node
from backbeat_celery.runtime.transactions import repeat
from backbeat_celery.states import Status

EDITABLE = frozenset({Status.FAILED, Status.RETRYING})


def edit_and_retry(node: Node, user: Any, data: dict[str, Any]) -> None:
    """Write other arguments under the row's lock, then retry.

    Raises InvalidTransition if the node can no longer be retried, BadInput if another user has
    edited it meanwhile or the arguments do not fit the task.
    """
    using = node.alias

    def once() -> None:
        with transaction.atomic(using=using):
            lock_workflow(node.workflow_id, using)
            assert node.parent_id is not None
            lock_node(node.parent_id, using)
            row, _ = lock_node(node.pk, using)
            if row.status not in EDITABLE:
                raise InvalidTransition(row.status, "edit_arguments", row.pk)
            stored = (
                Node.objects.using(using).only("args", "kwargs", "task", "input").get(pk=row.pk)
            )
            if digest(stored) != data["seen"]:
                raise BadInput("The arguments have changed meanwhile. Open the form again.")
            args, kwargs = merged(stored, data["args"], data["kwargs"])
            Node.objects.using(using).filter(pk=row.pk).update(args=args, kwargs=kwargs)
            reason = (
                f"arguments edited: {data['reason']}" if data["reason"] else "arguments edited"
            )
            row.retry(by=user, reason=reason)

    repeat(once, using=using)
    node.refresh_from_db()


def digest(node: Node) -> str:
    """Hash a node's arguments, so that a form can detect that they have changed."""
    text = payload.encode([list(node.args), dict(node.kwargs)])
    return salted_hmac("backbeat_celery.arguments", text).hexdigest()


def merged(
    node: Node, args: list[Any], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Put hidden values back in their places, and check that the task accepts the arguments.

    Raises BadInput.
    """
    args = restore(args, list(node.args))
    kwargs = restore(kwargs, dict(node.kwargs))
    if node.task in {MAP, STARMAP} and (args or kwargs.get("task") != node.kwargs["task"]):
        # Who may edit arguments may not choose which task is run.
        raise BadInput(f"Edit the items only, not the task {node.kwargs['task']} or its place.")
    task, given = registered_task(node.task), given_arguments(node)
    call_spec(Call(node.task, task, args, kwargs, {}, given))
    return args, kwargs


def restore(edited: Any, stored: Any) -> Any:
    """Replace each mark by the value that is stored in its place."""
    if edited == HIDDEN:
        if stored is _NOTHING:
            raise BadInput(f"{HIDDEN} stands for a hidden value, but there is none in this place.")
        return stored
    if isinstance(edited, dict):
        known = stored if isinstance(stored, dict) else {}
        return {k: restore(v, known.get(k, _NOTHING)) for k, v in edited.items()}
    if isinstance(edited, list):
        known_items = list(stored) if isinstance(stored, (list, tuple)) else []
        return [
            restore(item, known_items[i] if i < len(known_items) else _NOTHING)
            for i, item in enumerate(edited)
        ]
    return edited


_NOTHING: Any = object()

"""`complete` and `fail`: report the outcome of a node from outside."""

from __future__ import annotations

from typing import Any

from backbeat_celery.engine.external.reports import Fence, record_report
from backbeat_celery.engine.outcomes import Failed, Succeeded, clean
from backbeat_celery.exceptions import BadInput, StaleAttempt
from backbeat_celery.inputs import payload
from backbeat_celery.inputs.policy import policy_for
from backbeat_celery.inputs.tokens import Ticket, read
from backbeat_celery.models import Node
from backbeat_celery.verbs.actor import actor_name, reason_text
from backbeat_celery.verbs.deleted_rows import reread
from backbeat_celery.verbs.foreign_transaction import warn_if_apart


def complete(
    node: Node, result: Any = None, *, attempt: int | None = None, by: Any = None, reason: str = ""
) -> None:
    """Report success, as if the handler had returned `result`."""
    warn_if_apart(node.alias, "complete()")
    record_report(node, _success(result, by, reason), Fence(attempt))
    reread(node)


def fail(
    node: Node,
    error: BaseException | str,
    *,
    attempt: int | None = None,
    by: Any = None,
    reason: str = "",
) -> None:
    """Report failure, as if the handler had raised `error`."""
    warn_if_apart(node.alias, "fail()")
    record_report(node, _failure(node, error, by, reason), Fence(attempt))
    reread(node)


def complete_by_ticket(ticket: Ticket, result: Any) -> None:
    """Report success of the attempt that a token belongs to."""
    warn_if_apart(ticket.using, "report")
    record_report(_find(ticket, "complete"), _success(result), _fence(ticket))


def fail_by_ticket(ticket: Ticket, error: str) -> None:
    """Report failure of the attempt that a token belongs to."""
    warn_if_apart(ticket.using, "report")
    node = _find(ticket, "fail")
    record_report(node, _failure(node, error), _fence(ticket))


def take_remote_result(token: str, result: Any) -> None:
    """Record the result of a remote task; one that cannot be stored is left out."""
    ticket = read(token)
    node = _find(ticket, "complete")
    record_report(node, Succeeded.of(result, node.task), _fence(ticket), outage=True)


def take_remote_failure(token: str, task_id: str) -> None:
    """Record that a remote task failed; only its worker's log says why."""
    ticket = read(token)
    error = f"The remote task failed; look for {str(task_id)[:64]} in its worker's log."
    record_report(_find(ticket, "fail"), Failed(clean(error)), _fence(ticket), outage=True)


def _success(result: Any, by: Any = None, reason: str = "") -> Succeeded:
    payload.encode(result, "The result")
    return Succeeded(result, actor=actor_name(by), reason=reason_text(reason))


def _failure(node: Node, error: BaseException | str, by: Any = None, reason: str = "") -> Failed:
    options: dict[str, Any] = {"actor": actor_name(by), "reason": reason_text(reason)}
    policy = policy_for(node)
    if isinstance(error, BaseException):
        return Failed.from_exception(error, final=policy.gives_up_on(error), **options)
    if not isinstance(error, str):
        raise BadInput(f"error is an exception or a text, not {type(error).__name__}.")
    text = clean(error) or "no reason given"
    return Failed(text, final=policy.gives_up_on(None), **options)


def _find(ticket: Ticket, verb: str) -> Node:
    node = Node.objects.using(ticket.using).filter(pk=ticket.node_id).without_payload().first()
    if node is None:
        raise StaleAttempt("deleted", verb, ticket.node_id)
    return node


def _fence(ticket: Ticket) -> Fence:
    return Fence(ticket.attempt, ticket.claim_id)

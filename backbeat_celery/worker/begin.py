"""Begin a task call that is about nodes: claim them and show their arguments."""

from __future__ import annotations

import logging
from typing import Any

from celery import Task
from celery.exceptions import Ignore
from django.db import Error as AnyDatabaseError

from backbeat_celery.engine.bundle import claim_bundle
from backbeat_celery.engine.claim import NodeMessage, claim
from backbeat_celery.engine.claim_input import give_input
from backbeat_celery.inputs.message_headers import HEADER, OURS
from backbeat_celery.inputs.policy import Policy, policy_of, usual_policy, with_own
from backbeat_celery.inputs.task_options import check_task
from backbeat_celery.runtime import failpoints, sessions
from backbeat_celery.runtime.compat.celery import headers_of_call
from backbeat_celery.worker.bundle import Bundle
from backbeat_celery.worker.canvas_ids import show_ids
from backbeat_celery.worker.current_run import raise_refusal, store_refusal, store_run
from backbeat_celery.worker.exposed_arguments import ExposedArguments
from backbeat_celery.worker.message import has_header, parse
from backbeat_celery.worker.run import Run

logger = logging.getLogger(__name__)


def begin(task: Task[Any, Any], request: Any) -> Run | Bundle | None:
    """Claim the node that the current message names, if it names one.

    Raises Ignore, so that Celery drops the message, if the node cannot be claimed.
    """
    raise_refusal(request)
    if request.called_directly or not has_header(headers_of_call(request)):
        return None
    message = parse(headers_of_call(request), task.name)
    if message is None:
        logger.warning("Dropping a message for %s with a malformed header.", task.name)
        raise Ignore("malformed header")
    failpoints.hit("before_claim")
    try:
        with sessions.of_engine(message.using):
            run = _claimed(task, message, request.hostname or "")
    except AnyDatabaseError as exc:
        logger.warning(
            "Cannot claim node %s: %r. The sweeper sends it again.", message.node_id, exc
        )
        raise Ignore("the database is unavailable") from exc
    if run is None:
        raise Ignore("the node cannot be claimed")
    store_run(request, run)
    if request.headers:  # what a handler may pass on
        request.headers = {k: v for k, v in request.headers.items() if k not in OURS} or None
    if isinstance(run, Run):
        node = run.claim.node
        request.update(args=list(node.args), kwargs=dict(node.kwargs), retries=node.retries)
        if node.celery_id is not None:
            _show_chosen_id(request, node.celery_id)
        show_ids(request, node)
        failpoints.hit("before_handler")
    return run


def _show_chosen_id(request: Any, celery_id: str) -> None:
    """Show the id that the caller has chosen; each message has one of its own."""
    ours = headers_of_call(request)[HEADER]
    request.update({"id": celery_id, HEADER: {**ours, "id": celery_id}})


def begin_early(task: Task[Any, Any], request: Any, args: Any, kwargs: Any) -> None:
    """Claim before signal receivers are called, so that they see the arguments.

    Celery ignores an exception here, so `begin` raises it again later.
    """
    try:
        run = begin(task, request)
    except Exception as exc:  # also a time limit's
        store_refusal(request, exc)
    else:
        if run is not None:
            run.exposed = ExposedArguments(args, kwargs)
            run.exposed.show(run.claim)


def _claimed(task: Task[Any, Any], message: NodeMessage, worker: str) -> Run | Bundle | None:
    """Claim the nodes of the message; None if none can be claimed.

    A node with an atomic handler is claimed alone; the others get messages of their own.
    """
    policy, option_error = _policy_of(task)
    if message.others and not policy.atomic and option_error is None:
        claims = [
            mine
            for mine in claim_bundle(message, worker=worker, policy=policy)
            if give_input(mine)
        ]
        for mine in claims:
            mine.policy = with_own(policy, mine.node.options)
        return Bundle(task, claims) if claims else None
    taken = claim(message, worker=worker, policy=policy)
    if taken is None or not give_input(taken):
        return None
    taken.policy = with_own(policy, taken.node.options)
    return Run(task, taken, option_error)


def _policy_of(task: Task[Any, Any]) -> tuple[Policy, Exception | None]:
    """Give the policy of a task; with invalid options, that of the settings and the error.

    The attempt is started in any case and fails with that error.
    """
    try:
        check_task(task)
        return policy_of(task), None
    except Exception as exc:
        return usual_policy(), exc

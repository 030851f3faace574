"""Begin a task call that is about nodes: claim them, and tell others of their arguments."""

from __future__ import annotations

import logging
from typing import Any

from celery import Task
from celery.exceptions import Ignore
from django.db import Error as DatabaseTrouble

from backbeat_celery.engine.bundle import claim_bundle
from backbeat_celery.engine.claim import NodeMessage, claim
from backbeat_celery.inputs.message_headers import OURS
from backbeat_celery.inputs.policy import Policy, policy_of, usual_policy
from backbeat_celery.inputs.task_options import check_task
from backbeat_celery.runtime import failpoints, sessions
from backbeat_celery.runtime.compat.celery import headers_of_call
from backbeat_celery.worker.bundle import Bundle
from backbeat_celery.worker.current_run import keep_refusal, keep_run, raise_refusal
from backbeat_celery.worker.exposed_arguments import Told
from backbeat_celery.worker.message import has_header, parse
from backbeat_celery.worker.run import Run

logger = logging.getLogger(__name__)


def begin(task: Task[Any, Any], request: Any) -> Run | Bundle | None:
    """Claim the node that the current message names, if it names one.

    Raises Ignore, so that Celery drops the message, when the node is not to be had.
    """
    raise_refusal(request)
    if request.called_directly or not has_header(headers_of_call(request)):
        return None
    message = parse(headers_of_call(request), task.name)
    if message is None:
        logger.warning("Dropping a message for %s with a header that is not ours.", task.name)
        raise Ignore("malformed header")
    failpoints.hit("before_claim")
    try:
        with sessions.of_engine(message.using):
            run = _claimed(task, message, request.hostname or "")
    except DatabaseTrouble as exc:
        logger.warning("Cannot claim node %s: %r. It is sent again.", message.node_id, exc)
        raise Ignore("the database cannot be reached") from exc
    if run is None:
        raise Ignore("not to be claimed")
    keep_run(request, run)
    if request.headers:  # what a handler may pass on
        request.headers = {k: v for k, v in request.headers.items() if k not in OURS} or None
    if isinstance(run, Run):
        node = run.claim.node
        request.update(args=node.args, kwargs=node.kwargs, retries=node.retries)
        failpoints.hit("before_handler")
    return run


def begin_early(task: Task[Any, Any], request: Any, args: Any, kwargs: Any) -> None:
    """Claim before others hear of the call, so that they are told its arguments.

    Celery swallows here what is raised, so `begin` raises it where it is heeded.
    """
    try:
        run = begin(task, request)
    except Exception as exc:  # also a time limit's
        keep_refusal(request, exc)
    else:
        if run is not None:
            run.told = Told(args, kwargs)
            run.told.tell(run.claim.node)


def _claimed(task: Task[Any, Any], message: NodeMessage, worker: str) -> Run | Bundle | None:
    """Claim what the message asks for; None if nothing of it is to be had.

    An atomic handler shares its transaction with nobody: the others get messages of their own.
    """
    policy, refused = _policy_of(task)
    if message.others and not policy.atomic and refused is None:
        claims = claim_bundle(message, worker=worker, policy=policy)
        return Bundle(task, claims) if claims else None
    taken = claim(message, worker=worker, policy=policy)
    return None if taken is None else Run(task, taken, refused)


def _policy_of(task: Task[Any, Any]) -> tuple[Policy, Exception | None]:
    """The policy of a task; that of the settings, and why, if its options are none.

    The attempt is made all the same, and fails by what is wrong with the task.
    """
    try:
        check_task(task)
        return policy_of(task), None
    except Exception as exc:
        return usual_policy(), exc

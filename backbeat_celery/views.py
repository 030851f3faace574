"""The view behind a callback URL: takes JSON, gives one JSON sentence.

The token is a secret that Django, web servers and error reporters would log with the request or
a traceback. So the view removes it from the request first, passes on only what it contains, and
lets no exception out.
"""

from __future__ import annotations

import json
import logging
from typing import Any
from urllib.parse import quote

from django.core.exceptions import RequestDataTooBig
from django.db import Error as AnyDatabaseError
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.http.request import UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from backbeat_celery.conf import settings
from backbeat_celery.exceptions import BadInput, BadToken, InvalidTransition
from backbeat_celery.inputs import payload
from backbeat_celery.inputs.tokens import Ticket, read
from backbeat_celery.runtime.compat.django import keep_out_of_the_log
from backbeat_celery.verbs import complete_by_ticket, fail_by_ticket

logger = logging.getLogger(__name__)

ENVELOPE = 64
"""Bytes around the result: `{"result": ...}`."""

ESCAPED = 3
"""How much longer JSON with escaped letters is, as most clients write it: `\\u00e9`."""


class _Refusal(Exception):
    """The request is refused; the arguments are the status code and the sentence."""


HIDDEN = "***"


# The token authorises the request, and browsers do not send it by themselves.
@csrf_exempt
def complete(request: HttpRequest, token: str = "") -> HttpResponseBase:
    """Report the outcome of the attempt of the token, given in the URL or as a bearer token.

    The body is `{"result": ...}` or `{"error": "..."}`.
    """
    if request.method != "POST":
        # Django's decorator would log the URL, and so the token.
        _hide(request, token)
        answer = _answer(405, "Send a POST.")
        answer.headers["Allow"] = "POST"
        return answer
    try:
        ticket = read(token or _bearer(request))
    except BadToken as exc:
        return _answer(404, str(exc))
    finally:
        _hide(request, token or _bearer(request))
        del token
    return _take(request, ticket)


# A report has its own transaction, also with ATOMIC_REQUESTS: an exception at a commit after the
# view has returned would be handled by Django.
for _alias in connections:
    complete = transaction.non_atomic_requests(using=_alias)(complete)


def _bearer(request: HttpRequest) -> str:
    kind, _, token = str(request.META.get("HTTP_AUTHORIZATION", "")).partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _hide(request: HttpRequest, token: str) -> None:
    """Replace the token in everything that is logged of a request."""
    if not token:
        return
    texts = {name: text for name, text in request.META.items() if isinstance(text, str)}
    for name, text in texts.items():
        request.META[name] = text.replace(token, HIDDEN).replace(quote(token, safe=""), HIDDEN)
    request.path = request.path.replace(token, HIDDEN)
    request.path_info = request.path_info.replace(token, HIDDEN)
    if request.resolver_match is not None and "token" in request.resolver_match.kwargs:
        request.resolver_match.kwargs["token"] = HIDDEN


def _take(request: HttpRequest, ticket: Ticket) -> HttpResponseBase:
    try:
        _report(_body(request), ticket)
    except _Refusal as exc:
        return _answer(*exc.args)
    except BadInput as exc:
        return _answer(400, str(exc))
    except InvalidTransition:
        return _answer(409, "This attempt has been reported, or has ended otherwise.")
    except AnyDatabaseError:
        _log(ticket)
        return _answer(503, "The report could not be recorded. Send it again.")
    except Exception:  # logged in full; Django would log the URL as well
        _log(ticket)
        return _answer(500, "The report could not be recorded.")
    return _answer(200, "Recorded.")


def _report(body: dict[str, Any], ticket: Ticket) -> None:
    if "error" in body:
        fail_by_ticket(ticket, body["error"])
    else:
        complete_by_ticket(ticket, body["result"])


def _log(ticket: Ticket) -> None:
    logger.exception(
        "Cannot record the report for node %s, attempt %d.",
        ticket.node_id,
        ticket.attempt,
        extra={"node_id": ticket.node_id, "attempt": ticket.attempt},
    )


def _body(request: HttpRequest) -> dict[str, Any]:
    limit = settings.max_payload + ENVELOPE
    too_large = _Refusal(413, f"A report has at most {limit} bytes.")
    most = ESCAPED * limit
    try:
        if int(request.META.get("CONTENT_LENGTH") or 0) > most or len(request.body) > most:
            raise too_large
        body = json.loads(request.body)
        if len(request.body) > limit and payload.size(body) > limit:
            raise too_large
    except RequestDataTooBig:
        raise too_large from None
    except (ValueError, RecursionError, UnreadablePostError) as exc:
        raise _Refusal(400, "The body is not JSON.") from exc
    if not isinstance(body, dict) or len(body) != 1 or not body.keys() <= {"result", "error"}:
        raise _Refusal(400, 'The body is {"result": ...} or {"error": "..."}.')
    return body


def _answer(status: int, sentence: str) -> JsonResponse:
    response = JsonResponse({"detail": sentence}, status=status)
    # Django would log the path of a refused request, which contains the token.
    keep_out_of_the_log(response)
    return response

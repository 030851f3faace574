"""The view behind a callback URL: JSON in, one JSON sentence out.

The token is a secret that Django, web servers and error reporters would write down with the
request or with a traceback. So it is taken out of the request first, the code below the view
gets what it says and not the token itself, and no exception leaves the view.
"""

from __future__ import annotations

import json
import logging
from typing import Any
from urllib.parse import quote

from django.core.exceptions import RequestDataTooBig
from django.db import Error as DatabaseTrouble
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
"""How much longer JSON is in which letters are escaped, as most clients write it: `\\u00e9`."""


class _Refusal(Exception):
    """The request cannot be used; its arguments are the status code and the sentence."""


HIDDEN = "***"


# The token is what authorises a request, and no browser sends it by itself.
@csrf_exempt
def complete(request: HttpRequest, token: str = "") -> HttpResponseBase:
    """Report the outcome of the attempt that the token names, in the URL or as a bearer token.

    The body is `{"result": ...}` or `{"error": "..."}`.
    """
    if request.method != "POST":
        # Django's own decorator writes the address, and so the token, to the log.
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


# A report is a transaction of its own, also with ATOMIC_REQUESTS: what a commit raises after
# the view has returned would be an error of Django's.
for _alias in connections:
    complete = transaction.non_atomic_requests(using=_alias)(complete)


def _bearer(request: HttpRequest) -> str:
    kind, _, token = str(request.META.get("HTTP_AUTHORIZATION", "")).partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _hide(request: HttpRequest, token: str) -> None:
    """Take the token out of all that is written down of a request."""
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
    except DatabaseTrouble:
        _log(ticket)
        return _answer(503, "The report could not be recorded. Send it again.")
    except Exception:  # told in full to the log; Django would tell the address as well
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
        "Cannot record what was reported of node %s, attempt %d.",
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
    # Django logs the path of a request that is refused, and the token is in it.
    keep_out_of_the_log(response)
    return response

"""The view behind a callback URL: JSON in, one JSON sentence out."""

from __future__ import annotations

import json
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.http.request import UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from backbeat_celery.callbacks import complete_by_token, fail_by_token
from backbeat_celery.conf import settings
from backbeat_celery.exceptions import BadInput, BadToken, InvalidTransition

ENVELOPE = 64
"""Bytes around the result: `{"result": ...}`."""


class _Refusal(Exception):
    """The request cannot be used; its arguments are the status code and the sentence."""


# The token in the URL is what authorises a request, and no browser sends it by itself.
@csrf_exempt
def complete(request: HttpRequest, token: str) -> HttpResponseBase:
    """Report the outcome of the attempt that the token names.

    The body is `{"result": ...}` or `{"error": "..."}`.
    """
    if request.method != "POST":
        # Django's own decorator writes the address, and so the token, to the log.
        answer = _answer(405, "Send a POST.")
        answer.headers["Allow"] = "POST"
        return answer
    try:
        body = _body(request)
        if "error" in body:
            fail_by_token(token, body["error"])
        else:
            complete_by_token(token, body["result"])
    except _Refusal as exc:
        return _answer(*exc.args)
    except BadToken as exc:
        return _answer(404, str(exc))
    except BadInput as exc:
        return _answer(400, str(exc))
    except InvalidTransition:
        return _answer(409, "This attempt has been reported, or has ended otherwise.")
    return _answer(200, "Recorded.")


def _body(request: HttpRequest) -> dict[str, Any]:
    limit = settings.max_payload + ENVELOPE
    too_large = _Refusal(413, f"A report has at most {limit} bytes.")
    try:
        if int(request.META.get("CONTENT_LENGTH") or 0) > limit or len(request.body) > limit:
            raise too_large
        body = json.loads(request.body)
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
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response

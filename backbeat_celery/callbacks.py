"""Report by token: for a web request, a webhook or another service that holds one.

    from backbeat_celery.callbacks import complete_by_token, fail_by_token

Both raise BadToken for a token that is not ours or older than `max_age` seconds, StaleAttempt
for one that was used or whose attempt has ended otherwise, and BadPayload for a result that
cannot be stored.
"""

from __future__ import annotations

from typing import Any

from django.views.decorators.debug import sensitive_variables

from backbeat_celery.late import late
from backbeat_celery.tokens import read

_complete = late("backbeat_celery.verbs", "complete_by_ticket")
_fail = late("backbeat_celery.verbs", "fail_by_ticket")


# Error reports show the variables of each function; those below get what the token says.
@sensitive_variables("token")
def complete_by_token(token: str, result: Any = None, *, max_age: int | None = None) -> None:
    """Report success of the attempt whose handler made the token.

    `result` is JSON. `max_age` is in seconds; without it a token of any age is taken.

    Raises BadToken, StaleAttempt, and BadPayload for a result that cannot be stored.
    """
    _complete(read(token, max_age), result)


@sensitive_variables("token")
def fail_by_token(token: str, error: str, *, max_age: int | None = None) -> None:
    """Report failure of the attempt whose handler made the token; it is retried as usual.

    Raises BadToken and StaleAttempt.
    """
    _fail(read(token, max_age), error)

"""Completion tokens: signed texts whose holder may report one attempt, and no other.

A token is a secret. It is valid for one report, because it names the attempt by its random
claim id, which is cleared when the attempt ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core import signing
from django.db import connections
from django.views.decorators.debug import sensitive_variables

from backbeat_celery.exceptions import BadToken

SALT = "backbeat_celery.completion"


@dataclass(frozen=True, slots=True)
class Ticket:
    """The attempt that a token is valid for."""

    using: str
    node_id: UUID
    attempt: int
    claim_id: UUID


def sign(ticket: Ticket) -> str:
    """Make the token; it is safe in a URL."""
    said = [ticket.using, ticket.node_id.hex, ticket.attempt, ticket.claim_id.hex]
    return signing.dumps(said, salt=SALT)


@sensitive_variables("token")
def read(token: str, max_age: int | None = None) -> Ticket:
    """Read a token; raise BadToken if we did not sign it within `max_age` seconds."""
    try:
        said: Any = signing.loads(token, salt=SALT, max_age=max_age)
        using, node_id, attempt, claim_id = said
        ticket = Ticket(using, UUID(node_id), attempt, UUID(claim_id))
    except signing.SignatureExpired as exc:
        raise BadToken("The completion token is too old.") from exc
    except Exception as exc:  # any other error of the decoder for a forged token
        raise BadToken("This is not a completion token of this site.") from exc
    if ticket.using not in connections:
        raise BadToken("The completion token is for a database that this site does not have.")
    return ticket

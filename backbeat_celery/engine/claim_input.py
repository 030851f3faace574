"""Give a claimed attempt the values that its node takes as input."""

from __future__ import annotations

from typing import Any

from backbeat_celery.conf import settings
from backbeat_celery.engine.advance import advance
from backbeat_celery.engine.claim import Claim
from backbeat_celery.engine.order.dependents import cancel_with_dependents, lock_canvas
from backbeat_celery.engine.statements.claim import HANDED_TEXT
from backbeat_celery.engine.values import ValueMissing, input_of, secrets_given
from backbeat_celery.exceptions import BackbeatError
from backbeat_celery.inputs import payload
from backbeat_celery.models import Node
from backbeat_celery.runtime.lock_timeouts import step
from backbeat_celery.runtime.transactions import repeat
from backbeat_celery.states import Input


def give_input(claim: Claim) -> bool:
    """Put the input before the node's own arguments, in memory; False: it will never have one.

    Then the node is canceled, as it should have been when what it needs was. An input that is
    too large, or was never stored, fails the attempt when it runs.
    """
    node = claim.node
    if node.input == Input.NONE:
        return True
    try:
        handed = _handed(node)
        given, claim.given_secrets = (
            (handed, secrets_given(node, handed))
            if handed
            else repeat(lambda: _read(claim), using=claim.using, outage=True)
        )
    except ValueMissing as exc:
        _cancel(claim, f"{exc.name} {exc.pk} gives no value")
        return False
    except BackbeatError as exc:
        claim.input_error = exc
        return True
    node.args = [*given, *node.args]
    node.input = Input.NONE  # in memory: these are all of its arguments
    return True


def _read(claim: Claim) -> tuple[tuple[Any, ...], set[str]]:
    given = input_of(claim.node, is_lazy=claim.policy.lazy_input)
    return given, secrets_given(claim.node, given)


def _handed(node: Node) -> tuple[Any, ...]:
    """The result that the claim's own statement has read, if it has."""
    text = vars(node).pop(HANDED_TEXT, None)
    if text is None or len(text) > settings.max_input:
        return ()
    return (payload.decode(text),)


def _cancel(claim: Claim, reason: str) -> None:
    with step(claim.using):
        lock_canvas(claim.node)
        after_commit = cancel_with_dependents(claim.node, reason=reason)
    advance(after_commit, claim.using)

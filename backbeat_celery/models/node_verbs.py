"""What may be asked of a node and done to it, as methods: the doors are elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from backbeat_celery.late import late
from backbeat_celery.models.drawn import Drawn

if TYPE_CHECKING:
    from backbeat_celery.models.node import Node
    from backbeat_celery.typing import Actor, SpawnOptions, TaskOrSignature

_add_child = late("backbeat_celery.verbs", "add_child")
_retry = late("backbeat_celery.verbs", "retry")
_resolve = late("backbeat_celery.verbs", "resolve")
_shutdown = late("backbeat_celery.verbs", "shutdown")
_cancel = late("backbeat_celery.verbs", "cancel")
_reset = late("backbeat_celery.verbs", "reset")
_cancel_previous = late("backbeat_celery.verbs", "cancel_previous")
_complete = late("backbeat_celery.verbs", "complete")
_fail = late("backbeat_celery.verbs", "fail")
_explain = late("backbeat_celery.explain", "explain")


class NodeVerbs(Drawn):
    """The methods of `Node` that read its surroundings or steer it."""

    def explain(self) -> str:
        """Say in one sentence why this node is not running, and what would make it run."""
        sentence: str = _explain(self)
        return sentence

    def add_child(self, signature: TaskOrSignature, **options: Unpack[SpawnOptions]) -> Node:
        """Add a child from outside and have it waited for; takes the options of `spawn`.

        Raises NodeFinished if this node is finished.
        """
        child: Node = _add_child(self, signature, **options)
        return child

    # The verbs: `by` is a user or a text for the history. Each raises InvalidTransition, and
    # changes nothing, when the status does not allow it.

    def retry(self, *, by: Actor = None, reason: str = "") -> None:
        """Give this failed or retrying node one new attempt now.

        Children of earlier attempts are canceled; retries that are used up stay used up.

        Raises InvalidTransition.
        """
        _retry(self, by=by, reason=reason)

    def resolve(self, *, by: Actor = None, reason: str = "") -> None:
        """Treat this failed node as complete, and go on with what waits for it.

        Raises InvalidTransition.
        """
        _resolve(self, by=by, reason=reason)

    def shutdown(self, *, by: Actor = None, reason: str = "") -> None:
        """Complete this failed node and, if it is blocking, cancel the siblings behind it.

        Raises InvalidTransition.
        """
        _shutdown(self, by=by, reason=reason)

    def cancel(self, *, by: Actor = None, reason: str = "") -> None:
        """Cancel this unfinished node and all below it; its siblings go on.

        Raises InvalidTransition.
        """
        _cancel(self, by=by, reason=reason)

    def reset(self, *, by: Actor = None, reason: str = "") -> None:
        """Cancel all that is below this unfinished node; the node itself goes on.

        Raises InvalidTransition.
        """
        _reset(self, by=by, reason=reason)

    def cancel_previous(self, *, by: Actor = None, reason: str = "") -> None:
        """Cancel every unfinished node of the workflow registered before this one.

        Raises InvalidTransition.
        """
        _cancel_previous(self, by=by, reason=reason)

    def complete(
        self,
        result: Any = None,
        *,
        attempt: int | None = None,
        by: Actor = None,
        reason: str = "",
    ) -> None:
        """Report from outside that a node which awaits completion has succeeded.

        Raises BadPayload for a result that cannot be stored, StaleAttempt if `attempt` is not the
        current one, InvalidTransition if no report is awaited.
        """
        _complete(self, result, attempt=attempt, by=by, reason=reason)

    def fail(
        self,
        error: BaseException | str,
        *,
        attempt: int | None = None,
        by: Actor = None,
        reason: str = "",
    ) -> None:
        """Report from outside that an attempt has failed; it is retried as the task says.

        Raises StaleAttempt and InvalidTransition as `complete` does.
        """
        _fail(self, error, attempt=attempt, by=by, reason=reason)

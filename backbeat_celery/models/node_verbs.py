"""The queries and verbs of a node as methods; they are implemented in other packages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack, cast

from backbeat_celery.models.tree_mixin import TreeMixin

if TYPE_CHECKING:
    from backbeat_celery.models.node import Node
    from backbeat_celery.typing import Actor, SpawnOptions, TaskOrSignature


class NodeVerbs(TreeMixin):
    """The methods of `Node` that explain it, steer it or add to it."""

    @property
    def _row(self) -> Node:
        """This row, as the type that the verbs take."""
        return cast("Node", self)

    def explain(self) -> str:
        """Say in one sentence why this node is not running, and what would make it run."""
        from backbeat_celery.inspection.explain import explain

        return explain(self._row)

    def get_result(self) -> Any:
        """Give the value of this finished node: of a chain the last step's, of a group a list.

        Raises NotFinished before, and NoValue if it was canceled or could not be stored.
        """
        from backbeat_celery import verbs

        return verbs.get_result(self._row)

    def add_child(self, signature: TaskOrSignature, **options: Unpack[SpawnOptions]) -> Node:
        """Add a child from outside and have it waited for; takes the options of `spawn`.

        Raises NodeFinished if this node is finished.
        """
        from backbeat_celery import verbs

        return verbs.add_child(self._row, signature, **options)

    # The verbs: `by` is a user or a text for the history. Each raises InvalidTransition, and
    # changes nothing, when the status does not allow it.

    def retry(self, *, by: Actor = None, reason: str = "") -> None:
        """Give this failed or retrying node one new attempt now.

        Children of earlier attempts are canceled; retries that are used up stay used up.

        Raises InvalidTransition.
        """
        from backbeat_celery import verbs

        verbs.retry(self._row, by=by, reason=reason)

    def resolve(self, result: Any = None, *, by: Actor = None, reason: str = "") -> None:
        """Treat this failed node as complete with that result, and go on with what waits for it.

        Raises InvalidTransition, and BadPayload for a result that cannot be stored.
        """
        from backbeat_celery import verbs

        verbs.resolve(self._row, result, by=by, reason=reason)

    def shutdown(self, *, by: Actor = None, reason: str = "") -> None:
        """Complete this failed node and cancel the siblings that it holds.

        A blocking node holds all siblings behind it, a non-blocking one the first barrier behind
        it and all behind that.

        Raises InvalidTransition.
        """
        from backbeat_celery import verbs

        verbs.shutdown(self._row, by=by, reason=reason)

    def cancel(self, *, by: Actor = None, reason: str = "") -> None:
        """Cancel this unfinished node and all below it; its siblings go on.

        Raises InvalidTransition.
        """
        from backbeat_celery import verbs

        verbs.cancel(self._row, by=by, reason=reason)

    def reset(self, *, by: Actor = None, reason: str = "") -> None:
        """Cancel all that is below this unfinished node; the node itself goes on.

        Raises InvalidTransition.
        """
        from backbeat_celery import verbs

        verbs.reset(self._row, by=by, reason=reason)

    def cancel_previous(self, *, by: Actor = None, reason: str = "") -> None:
        """Cancel every unfinished node of the workflow registered before this one.

        Raises InvalidTransition.
        """
        from backbeat_celery import verbs

        verbs.cancel_previous(self._row, by=by, reason=reason)

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
        from backbeat_celery import verbs

        verbs.complete(self._row, result, attempt=attempt, by=by, reason=reason)

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
        from backbeat_celery import verbs

        verbs.fail(self._row, error, attempt=attempt, by=by, reason=reason)

"""The functions that a project calls: send signals, and report by token.

This module imports no models, so that task modules may import it at any time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from django.views.decorators.debug import sensitive_variables

from backbeat_celery.exceptions import BadInput
from backbeat_celery.inputs.canvas import task_spec
from backbeat_celery.inputs.message_headers import take
from backbeat_celery.inputs.node_spec import NodeSpec, check_name
from backbeat_celery.inputs.subject import subject_key
from backbeat_celery.inputs.tokens import read
from backbeat_celery.runtime.text import quote
from backbeat_celery.states import Mode

if TYPE_CHECKING:
    from django.db.models import Model

    from backbeat_celery.models import Node
    from backbeat_celery.typing import Rescue, TaskOrSignature


class RunSignalOptions(TypedDict, total=False):
    """The options of `Workflow.signal`."""

    key: str | None
    mode: Mode | str
    fires_at: datetime | None
    delay: float | timedelta | None
    link: Node | UUID | None
    metadata: dict[str, Any] | None
    max_retries: int | None
    rescue: Rescue | None
    close: bool


class SignalOptions(RunSignalOptions, total=False):
    """The options of `signal`, as `signal_many` takes them."""

    subject: Model | str | None
    name: str | None
    using: str | None


OF_THE_NODE = RunSignalOptions.__annotations__.keys() - {"link", "close"}
"""Options of `signal` that are about the node, and not about where it goes."""


@dataclass(frozen=True, slots=True)
class CheckedSignal:
    """A signal whose input is valid."""

    name: str
    subject: str
    spec: NodeSpec
    link: Any
    using: str | None
    close: bool = False
    """Whether the run takes no more signals after this one."""
    key_lasts: bool = False
    """Whether its key is a handler's, whose next attempt may come after the end of the run."""

    @property
    def workflow(self) -> tuple[str, str]:
        """What all runs of its workflow have in common."""
        return self.name, self.subject


def signal(
    signature: TaskOrSignature,
    *,
    subject: Model | str | None = None,
    name: str | None = None,
    key: str | None = None,
    mode: Mode | str = Mode.BLOCKING,
    fires_at: datetime | None = None,
    delay: float | timedelta | None = None,
    link: Node | UUID | None = None,
    metadata: dict[str, Any] | None = None,
    max_retries: int | None = None,
    rescue: Rescue | None = None,
    close: bool = False,
    using: str | None = None,
) -> Node:
    """Add a top-level node to the workflow of `subject`, opening the workflow if need be.

    `signature` is a task, its signature or a canvas. `name` is the workflow's, by default the
    task's. Without a subject the workflow is this signal's own, and is finished with it;
    `close=True` closes the subject's workflow in the same transaction.
    A second signal with the same `key` in the same run gives the first one. `delay` is in
    seconds, `fires_at` an aware datetime. `link` makes that node wait for this signal.
    `max_retries` and `rescue` come before those of the task, or of each task of a canvas.
    Inside `transaction.atomic()` the signal is part of the transaction; the broker is not
    needed.

    Raises BadInput for what cannot be used, WorkflowClosed, LinkCycle, InvalidTransition.
    """
    spec = task_spec(
        signature,
        mode=mode,
        fires_at=fires_at,
        delay=delay,
        key=key,
        metadata=metadata,
        max_retries=max_retries,
        rescue=rescue,
    )
    from backbeat_celery import verbs

    return verbs.send([_checked(spec, subject, name, link, using, close)])[0]


def signal_many(signals: Iterable[tuple[TaskOrSignature, SignalOptions]]) -> list[Node]:
    """Send several signals in one transaction: all of them or none.

    Each item is a signature and a dictionary of the options of `signal`. Nodes come back in the
    same order.

    Raises what `signal` raises; BadInput names the position of the signal.
    """
    checked = []
    for position, item in enumerate(signals, start=1):
        try:
            signature, given = item
            options: dict[str, Any] = dict(given)
        except (TypeError, ValueError) as exc:
            raise BadInput(
                f"Signal number {position} is not a pair of a signature and its options."
            ) from exc
        where = [options.pop(name, None) for name in ("subject", "name", "link", "using")]
        where.append(options.pop("close", False))
        if unknown := options.keys() - OF_THE_NODE:
            raise BadInput(f"signal() has no option {', '.join(sorted(unknown))}.")
        spec = task_spec(signature, **{"mode": Mode.BLOCKING, **options})
        checked.append(_checked(spec, *where))
    from backbeat_celery import verbs

    return verbs.send(checked) if checked else []


# Error reports show local variables; the functions below get the decoded token only.
@sensitive_variables("token")
def complete_by_token(token: str, result: Any = None, *, max_age: int | None = None) -> None:
    """Report success of the attempt whose handler made the token.

    `result` is JSON. `max_age` is in seconds; without it a token of any age is taken.

    Raises BadToken, StaleAttempt, and BadPayload for a result that cannot be stored.
    """
    from backbeat_celery import verbs

    verbs.complete_by_ticket(read(token, max_age), result)


@sensitive_variables("token")
def fail_by_token(token: str, error: str, *, max_age: int | None = None) -> None:
    """Report failure of the attempt whose handler made the token; it is retried as usual.

    Raises BadToken and StaleAttempt.
    """
    from backbeat_celery import verbs

    verbs.fail_by_ticket(read(token, max_age), error)


def check_close(close: bool) -> bool:
    """Give the option `close`, or raise BadInput."""
    if not isinstance(close, bool):
        raise BadInput(f"close is True or False, not {quote(close)}.")
    return close


def _checked(
    spec: NodeSpec, subject: Any, name: Any, link: Any, using: Any, close: Any
) -> CheckedSignal:
    check_close(close)
    if subject is None:
        if spec.key is not None:
            raise BadInput(
                "A key is unique in a workflow, and without a subject each signal has a workflow "
                "of its own: give the subject as well."
            )
        subject, close = str(spec.id), True
    workflow_name = _name_of(spec) if name is None else check_name(name, "workflow")
    return CheckedSignal(workflow_name, subject_key(subject), take(spec), link, using, close)


def _name_of(spec: NodeSpec) -> str:
    """The name of a workflow that has none: of its task, or of the first one of a canvas."""
    return next((call.task for call in spec.calls()), spec.name)

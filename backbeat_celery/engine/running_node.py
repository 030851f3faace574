"""The running node as `current_node()` gives it: its data, and its new children."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Unpack
from uuid import UUID

from backbeat_celery.engine.progress import ProgressReport
from backbeat_celery.engine.values import finished_value
from backbeat_celery.exceptions import BadInput, UnsupportedOption
from backbeat_celery.inputs import tokens
from backbeat_celery.inputs.canvas import task_spec
from backbeat_celery.inputs.message_headers import take
from backbeat_celery.inputs.node_spec import NodeSpec, flag_spec
from backbeat_celery.models import Node
from backbeat_celery.runtime import failpoints
from backbeat_celery.runtime.current_node import SpawnedChild, running
from backbeat_celery.states import Container, Mode, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backbeat_celery.engine.claim import Claim
    from backbeat_celery.typing import FlagOptions, SpawnOptions, TaskOrSignature


class RunningNode:
    """The node whose handler runs; see `CurrentNode` for its interface."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._progress = ProgressReport(claim)
        self._signals: dict[tuple[str, Hashable], dict[UUID, int]] = defaultdict(dict)
        self._keys: dict[str, UUID] | None = None
        self._members = 0

    def __repr__(self) -> str:
        return f"<running node {self.name} {self.id}, attempt {self.attempt}>"

    @property
    def id(self) -> UUID:
        return self._claim.node.pk

    @property
    def workflow_id(self) -> UUID:
        return self._claim.node.workflow_id

    @property
    def parent_id(self) -> UUID:
        parent_id = self._claim.node.parent_id
        assert parent_id is not None  # only a root has none, and a root is never claimed
        return parent_id

    @property
    def subject(self) -> str:
        return str(self._claim.node.workflow.subject)

    @property
    def name(self) -> str:
        return str(self._claim.node.name)

    @property
    def attempt(self) -> int:
        return self._claim.node.attempt

    @property
    def idempotency_key(self) -> str:
        """A text that is the same for each attempt of this node, for calls of other services."""
        return str(self.id)

    @property
    def metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = self._claim.node.metadata
        return metadata

    def completion_token(self) -> str:
        """Give a signed token that permits to report this attempt's result once.

        Raises UnsupportedOption in a node that does not await completion.
        """
        node = self._claim.node
        if not node.awaits_report:
            raise UnsupportedOption(
                f"{self.name} completes when its handler returns. Set awaits_completion=True on "
                "the task to have it wait for a report.",
                anchor="completion-from-outside",
            )
        return tokens.sign(tokens.Ticket(node.alias, node.pk, node.attempt, self._claim.claim_id))

    def is_wanted(self) -> bool:
        """Tell whether this attempt's result would still be accepted; makes one query."""
        failpoints.hit("in_handler")
        rows = Node.objects.using(self._claim.using).filter(pk=self.id, status=Status.RUNNING)
        return rows.filter(self._claim.is_current).exists()

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Report the progress of this attempt; cheap enough to call for each item of a loop."""
        failpoints.hit("in_handler")
        self._progress.report(done, total, message)

    def spawn(self, signature: TaskOrSignature, **options: Unpack[SpawnOptions]) -> SpawnedChild:
        """Register a child, recorded and started when this attempt succeeds."""
        return self._register(task_spec(signature, **options))

    def spawn_many(
        self, signatures: Iterable[TaskOrSignature], **options: Unpack[SpawnOptions]
    ) -> list[SpawnedChild]:
        """Register a child for each signature, all with the same options."""
        specs = [task_spec(signature, **options) for signature in signatures]
        return [self._register(spec) for spec in specs]

    def spawn_replacement(self, signature: TaskOrSignature) -> None:
        """Register the child whose value is to be this node's."""
        self._register(task_spec(signature, mode=Mode.BLOCKING, is_replacement=True))

    def result_of(self, node: SpawnedChild | Node | UUID) -> Any:
        """Give the value of a finished node of the same workflow."""
        pk: Any = node.id if isinstance(node, SpawnedChild) else getattr(node, "pk", node)
        rows = Node.objects.using(self._claim.using).filter(workflow_id=self.workflow_id, pk=pk)
        row = rows.first()
        if row is None:
            raise BadInput(f"There is no node {pk} in the workflow of {self.name}.")
        return finished_value(row)

    def add_to_chord(self, signature: TaskOrSignature) -> SpawnedChild:
        """Add a member to the header of a chord that this node is in, at once."""
        failpoints.hit("in_handler")
        header = self._header()
        if header is None:
            raise ValueError(f"{self.name} is not a member of any chord.")
        self._members += 1
        key = f"{self.id}:{self._members}"
        return SpawnedChild(header.add_child(signature, mode=Mode.NON_BLOCKING, key=key).pk)

    def _header(self) -> Node | None:
        nodes = Node.objects.using(self._claim.using)
        row = self._claim.node
        while row.parent_id is not None:
            above = nodes.without_payload().get(pk=row.parent_id)
            if above.container == Container.CHORD and row.seq == 0:
                return row
            row = above
        return None

    def flag(self, name: str, **options: Unpack[FlagOptions]) -> SpawnedChild:
        """Register a child without a handler: it completes when it is its turn and it is due."""
        return self._register(flag_spec(name, **options))

    def _register(self, spec: NodeSpec) -> SpawnedChild:
        failpoints.hit("in_handler")
        keys = {} if spec.key is None else self._known_keys()
        if spec.key in keys:
            return SpawnedChild(keys[spec.key])
        self._claim.specs.append(take(spec))
        if spec.key is not None:
            keys[spec.key] = spec.id
        return SpawnedChild(spec.id)

    def _known_keys(self) -> dict[str, UUID]:
        """The keys of all children so far; those of earlier children are read once."""
        if self._keys is None:
            children = Node.objects.using(self._claim.using).children_of(self.id)
            rows = children.filter(key__isnull=False).values_list("key", "pk")
            self._keys = dict(rows) if self._claim.node.next_seq else {}  # type: ignore[arg-type]
        return self._keys

    def next_signal_key(self, task: str, workflow: Hashable, spec_id: UUID) -> str:
        """Make the key of a signal that this handler sends without a key.

        A retry sends the same signals in the same order, so it finds those sent before.
        """
        # A repeated transaction asks for the same signal again.
        sent = self._signals[task, workflow]
        ordinal = sent.setdefault(spec_id, len(sent))
        return f"{self.id}:{ordinal}:{task}"[:255]


@contextmanager
def entered(node: RunningNode) -> Iterator[None]:
    """Make `node` the current node."""
    token = running.set(node)
    try:
        yield
    finally:
        running.reset(token)

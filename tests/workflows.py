"""Handlers of the tests: each kind of task that may be a node, and a script to drive them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import shared_task
from celery.exceptions import Ignore, Reject

from backbeat_celery import NodeTask, current_node, node_task, signal


@node_task
def done(*args: Any, **kwargs: Any) -> Any:
    """Succeed, giving back the first argument."""
    return args[0] if args else None


@node_task
def tree(shape: dict[str, Any]) -> str:
    """Spawn what the shape says: `{"spawn": [{"task", "mode", "barrier", ...}, ...]}`."""
    for child in shape.get("spawn", []):
        options = {k: v for k, v in child.items() if k not in {"shape", "flag", "args"}}
        if "flag" in child:
            current_node().flag(child["flag"], **options)
        else:
            current_node().spawn(tree.s(child.get("shape", {})), **options)
    if shape.get("fail_until", 0) >= current_node().attempt:
        raise RuntimeError("not yet")
    return shape.get("name", "")


@node_task(max_retries=2, default_retry_delay=10, retry_jitter=False)
def flaky(failures: int) -> str:
    """Fail that many times, leaving a child behind each time."""
    current_node().spawn(done.s(current_node().attempt))
    if current_node().attempt <= failures:
        raise RuntimeError(f"failure {current_node().attempt}")
    return "at last"


@node_task(dont_autoretry_for=(ValueError,))
def fatal() -> None:
    raise ValueError("no use to try again")


@shared_task(base=NodeTask, bind=True, max_retries=5)
def bound(self: Any, wait: float) -> int:
    """Ask for two durable retries, then give the number of retries."""
    if self.request.retries < 2:
        raise self.retry(countdown=wait)
    return self.request.retries


@shared_task
def plain(x: int, y: int = 1) -> int:
    """A task of somebody else's package, which knows nothing of us."""
    return x + y


@shared_task(bind=True, autoretry_for=(KeyError,), retry_kwargs={"max_retries": 1, "countdown": 7})
def plain_autoretry(self: Any, until: int) -> int:
    if self.request.retries < until:
        raise KeyError("again")
    return self.request.retries


@shared_task(bind=True)
def plain_retry(self: Any) -> str:
    if self.request.retries == 0:
        self.retry(countdown=3)
    return "retried"


@node_task
def ignoring() -> None:
    raise Ignore


@node_task
def rejecting(requeue: bool) -> None:
    raise Reject("not me", requeue=requeue)


@node_task
def exiting() -> None:
    raise SystemExit(3)


@node_task
def returning(what: str) -> Any:
    return {"set": {1}, "nan": float("nan"), "huge": "x" * 300_000, "nul": "a\x00b"}[what]


@node_task(retry_backoff=False, default_retry_delay=5, retry_jitter=False, max_retries=None)
def stubborn() -> None:
    raise RuntimeError("never")


@node_task
def signalling(subject: str, fail: bool) -> None:
    """Signal another workflow twice; the first attempt may fail after that."""
    signal(done.s(1), subject=subject)
    signal(done.s(2), subject=subject)
    if fail and current_node().attempt == 1:
        raise RuntimeError("after the signals")


@node_task
def linking(subject: str) -> None:
    """Wait for a signal of another workflow."""
    signal(done.s(), subject=subject, link=current_node().id)


@node_task(atomic=True, default_retry_delay=1, retry_jitter=False)
def atomic_effect(name: str, fail_until: int = 0) -> None:
    """Write a row that must exist exactly once."""
    from django.contrib.auth.models import Group

    Group.objects.create(name=f"{name}-{current_node().attempt}")
    if current_node().attempt <= fail_until:
        raise RuntimeError("after the write")


@node_task(timeout=60, default_retry_delay=1)
def slow() -> None:
    """Told to be slow by the test that kills it."""


scripts: dict[str, Callable[[Any], Any]] = {}
"""What the scripted handlers do, by name; the `script` fixture writes it."""


@node_task(bind=True, max_retries=2, default_retry_delay=10, retry_jitter=False)
def scripted(self: Any, name: str = "main") -> Any:
    """Do what the test says."""
    return scripts[name](self)


@node_task(bind=True, atomic=True, max_retries=2, default_retry_delay=10, retry_jitter=False)
def scripted_atomic(self: Any, name: str = "main") -> Any:
    return scripts[name](self)


@shared_task(bind=True)
def scripted_plain(self: Any, name: str = "main") -> Any:
    return scripts[name](self)


@node_task(bind=True, throws=(LookupError,), dont_autoretry_for=(ValueError,), timeout=60)
def scripted_with_limits(self: Any, name: str = "main") -> Any:
    return scripts[name](self)


@node_task(mode="non_blocking")
def non_blocking_by_default() -> None:
    """Say so on the task; the place that spawns it need not."""


@node_task(awaits_completion=True)
def awaiting() -> None:
    """Done when somebody says so."""


@node_task(
    bind=True,
    awaits_completion=True,
    timeout=600,
    max_retries=2,
    default_retry_delay=10,
    retry_jitter=False,
    dont_autoretry_for=(ValueError,),
)
def scripted_awaiting(self: Any, name: str = "main") -> Any:
    return scripts[name](self)


@node_task(bind=True, awaits_completion=True, atomic=True, retry_jitter=False)
def scripted_awaiting_atomic(self: Any, name: str = "main") -> Any:
    return scripts[name](self)


@node_task(bundle=5, bind=True, max_retries=2, default_retry_delay=10, retry_jitter=False)
def bundled(self: Any, number: int = 0) -> Any:
    """Do what the test says; up to five in a message."""
    script = scripts.get("bundled")
    return number if script is None else script(self, number)


@shared_task(base=NodeTask, bundle=True)
def badly_bundled() -> None:
    """Says something that is no number."""


@node_task(bind=True, max_retries=2, default_retry_delay=10, retry_jitter=False)
def rescuing(self: Any, node_id: Any) -> Any:
    """Come to the rescue of a failed node as the script `rescue` says."""
    return scripts["rescue"](node_id)


@node_task(max_retries=1, default_retry_delay=10, retry_jitter=False, rescue=rescuing)
def rescued(succeeds_at: int = 99) -> int:
    """Fail until that attempt."""
    if current_node().attempt < succeeds_at:
        raise RuntimeError("somebody come to the rescue")
    return current_node().attempt


@node_task(max_retries=1, default_retry_delay=10, retry_jitter=False)
def helper(*args: Any, day: Any = None) -> None:
    """Come to the rescue of one node as the script `helper` says."""
    scripts["helper"](*args, **({} if day is None else {"day": day}))


@node_task(rescue="tests.workflows.nobody")
def rescued_by_nobody() -> None:
    """Name a rescue that does not exist."""


@node_task(max_retries=0)
def revealing(card: str) -> None:
    """Say in an error what should not be said."""
    raise ValueError(f"no {card} here")


@node_task(max_retries=0)
def interrupting() -> None:
    raise KeyboardInterrupt

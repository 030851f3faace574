"""What the rules of order promise, in plain Python: no database, no clock, no engine.

The model does not follow a run step by step. It says where every node must stand once
nothing more can happen, however messages were lost, doubled or late and whoever died.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

BLOCKING, NON_BLOCKING, FORGET = "blocking", "non_blocking", "fire_and_forget"


@dataclass(eq=False)
class Item:
    """A node as the model sees it."""

    label: str
    kind: str
    mode: str = BLOCKING
    barrier: bool = False
    delay: float | None = None
    key: str | None = None
    failures: int = 0
    spawns: list[Item] = field(default_factory=list)
    before: list[Item] = field(default_factory=list)
    """Added from outside before the handler was accepted, so first in the line."""
    after: list[Item] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    """Labels of signals elsewhere that must be complete first."""

    @property
    def counts(self) -> bool:
        return self.mode != FORGET

    @property
    def line(self) -> list[Item]:
        """The children in order; of several with one key only the first exists."""
        return _first_of_each_key(self.before + self.spawns + self.after)


@dataclass
class Fate:
    """Where a node ends."""

    status: str
    retries: int = 0
    is_called: bool = False


class Model:
    """All workflows of one run of the machine."""

    def __init__(self, max_retries: dict[str, int]) -> None:
        self.max_retries = max_retries
        self.roots: dict[tuple[str, str], Item] = {}
        self.items: dict[str, Item] = {}

    def signal(self, name: str, subject: str, shape: dict[str, Any]) -> str:
        """Append a signal; give the label of the node that the caller must get."""
        root = self.roots.setdefault((name, subject), Item(f"{name}/{subject}", "root"))
        return self._append(root.after, root.line, shape)

    def add_child(self, parent: str, shape: dict[str, Any], *, is_accepted: bool) -> str:
        """Append a child from outside; give the label of the node that the caller must get."""
        item = self.items[parent]
        if is_accepted:
            return self._append(item.after, item.line, shape)
        return self._append(item.before, item.before, shape)

    def link(self, source: str, target: str) -> None:
        """Let a node wait for a signal of another workflow."""
        self.items[source].links.append(target)

    def _append(self, where: list[Item], line: list[Item], shape: dict[str, Any]) -> str:
        for known in line:
            if shape["key"] is not None and known.key == shape["key"]:
                return known.label
        where.append(self._build(shape))
        return str(shape["label"])

    def _build(self, shape: dict[str, Any]) -> Item:
        fields = {k: v for k, v in shape.items() if k != "children"}
        item = Item(**fields, spawns=[self._build(child) for child in shape["children"]])
        self.items[item.label] = item
        return item

    def fates(self) -> dict[str, Fate]:
        """Where every node ends. Links reach across trees, so repeat until nothing changes."""
        fates: dict[str, Fate] = {}
        while True:
            complete = {label for label, fate in fates.items() if fate.status == "complete"}
            following: dict[str, Fate] = {}
            for root in self.roots.values():
                self._walk(root.line, complete, following)
            if following == fates:
                return fates
            fates = following

    def _walk(self, line: list[Item], complete: set[str], fates: dict[str, Fate]) -> None:
        """Rules 4.2 and 4.6: a blocking sibling holds back all behind it, a barrier waits for all
        that count before it."""
        is_held, is_crowded = False, False
        for item in line:
            if is_held or (item.barrier and is_crowded):
                self._stay(item, "ready", fates)
            else:
                self._play(item, complete, fates)
            is_open = fates[item.label].status != "complete"
            is_held |= is_open and item.mode == BLOCKING
            is_crowded |= is_open and item.counts

    def _stay(self, item: Item, status: str, fates: dict[str, Fate]) -> None:
        fates[item.label] = Fate(status)
        for child in _first_of_each_key(item.before):
            self._stay(child, "pending", fates)

    def _play(self, item: Item, complete: set[str], fates: dict[str, Fate]) -> None:
        if item.kind == "flag":
            fates[item.label] = Fate("complete")
            return
        allowed = self.max_retries[item.kind]
        if item.failures > allowed:
            self._stay(item, "failed", fates)
            fates[item.label] = Fate("failed", allowed + 1, is_called=True)
            return
        self._walk(item.line, complete, fates)
        is_open = any(fates[c.label].status != "complete" for c in item.line if c.counts)
        is_linked = not complete.issuperset(item.links)
        status = "waiting" if is_open or is_linked else "complete"
        fates[item.label] = Fate(status, item.failures, is_called=True)


def _first_of_each_key(items: list[Item]) -> list[Item]:
    seen: set[str] = set()
    kept = []
    for item in items:
        if item.key is None or item.key not in seen:
            kept.append(item)
        if item.key is not None:
            seen.add(item.key)
    return kept


def counting_subtree(item: Item) -> Iterator[Item]:
    """The node and all below it that must be complete for it to be."""
    yield item
    for child in item.line:
        if child.counts:
            yield from counting_subtree(child)

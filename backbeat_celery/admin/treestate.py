"""What is open on a tree page. All of it is in the URL, so that it survives a reload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from django.http import QueryDict

from backbeat_celery.admin.search import as_uuid

MOST = 60
"""Branches whose state a URL keeps; the oldest are dropped first."""


@dataclass(frozen=True, slots=True)
class TreeState:
    """Branches that the user opened or folded, pages of wide ones, and switches."""

    top: UUID | None = None
    opened: tuple[UUID, ...] = ()
    folded: tuple[UUID, ...] = ()
    pages: Mapping[UUID, int] | None = None
    squeezed: bool = True

    @classmethod
    def read(cls, query: QueryDict) -> TreeState:
        """Read it from a URL; invalid parts are ignored."""
        pages = {}
        for item in query.getlist("from")[:MOST]:
            pk, _, seq = item.partition(":")
            if (parent := as_uuid(pk)) is not None and seq.isdecimal() and len(seq) < 10:
                pages[parent] = int(seq)
        return cls(
            top=as_uuid(query.get("top", "")),
            opened=_ids(query.getlist("open")),
            folded=_ids(query.getlist("fold")),
            pages=pages,
            squeezed=query.get("gaps") != "full",
        )

    def page_of(self, node_id: UUID) -> int | None:
        """Give the place of the first child shown, if the user chose one."""
        return (self.pages or {}).get(node_id)

    def open(self, node_id: UUID) -> TreeState:
        return replace(
            self,
            opened=(*self.opened, node_id)[-MOST:],
            folded=tuple(pk for pk in self.folded if pk != node_id),
        )

    def fold(self, node_id: UUID) -> TreeState:
        return replace(
            self,
            folded=(*self.folded, node_id)[-MOST:],
            opened=tuple(pk for pk in self.opened if pk != node_id),
        )

    def turn_to(self, node_id: UUID, seq: int) -> TreeState:
        """Show the children of a node from this place on."""
        return replace(self, pages={**(self.pages or {}), node_id: max(0, seq)})

    def squeeze(self, squeezed: bool) -> TreeState:
        return replace(self, squeezed=squeezed)

    @property
    def url(self) -> str:
        """The URL of this state, relative to the page."""
        query = QueryDict(mutable=True)
        if self.top:
            query["top"] = str(self.top)
        query.setlist("open", [str(pk) for pk in self.opened])
        query.setlist("fold", [str(pk) for pk in self.folded])
        query.setlist("from", [f"{pk}:{seq}" for pk, seq in (self.pages or {}).items()])
        if not self.squeezed:
            query["gaps"] = "full"
        return "?" + query.urlencode(safe=":")


def _ids(texts: list[str]) -> tuple[UUID, ...]:
    found = [as_uuid(text) for text in texts[:MOST]]
    return tuple(dict.fromkeys(pk for pk in found if pk is not None))

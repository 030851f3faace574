"""Pages of long lists, without counting the whole table."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator

if TYPE_CHECKING:
    _Paginator = Paginator[Any]
else:
    _Paginator = Paginator

CAP = 10_000
"""Rows that are counted, and paged through by number; what is older has an address of its own."""


SMALL_CAP = 1000
"""The same where each row that matches has to be searched for."""


class CappedPaginator(_Paginator):
    """Counts at most `cap` rows, so that a page costs the same however long the table is."""

    cap = CAP

    @cached_property
    def count(self) -> int:
        return min(self._counted, self.cap)

    @cached_property
    def _counted(self) -> int:
        rows: Any = self.object_list
        counted: int = rows.order_by()[: self.cap + 1].count()
        return counted

    @property
    def is_cut(self) -> bool:
        """Whether there are more rows than were counted."""
        return self._counted > self.cap


class PagedChangeList(ChangeList):
    """A list that evaluates its page once, and hands it to those who add to its rows."""

    def get_results(self, request: Any) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        self.model_admin.complete_rows(request, rows)  # type: ignore[attr-defined]
        self.result_list = rows

    def get_ordering_field(self, field_name: Any) -> Any:
        """Sort by what has a sortable heading; Django takes any column from the address."""
        may_sort = self.sortable_by is None or field_name in self.sortable_by
        return super().get_ordering_field(field_name) if may_sort else None

    @property
    def is_cut(self) -> bool:
        """Whether there are more rows than can be paged through by number."""
        return bool(getattr(self.paginator, "is_cut", False))

    @property
    def older_url(self) -> str:
        """The address of the same list from where this page ends."""
        return self.get_query_string({"id__lt": self.result_list[-1].pk}, ["p"])

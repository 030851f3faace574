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
"""Rows that are counted and numbered in pages; older rows are reached by a link."""


SMALL_CAP = 1000
"""The same for lists whose rows are expensive to find."""


class CappedPaginator(_Paginator):
    """Counts at most `cap` rows, so that a page of any table costs the same."""

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
    """A list that evaluates its page once and passes it to `complete_rows`."""

    def get_results(self, request: Any) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        self.model_admin.complete_rows(request, rows)  # type: ignore[attr-defined]
        self.result_list = rows

    def get_ordering_field(self, field_name: Any) -> Any:
        """Sort only by sortable headings; Django accepts any column from the URL."""
        may_sort = self.sortable_by is None or field_name in self.sortable_by
        return super().get_ordering_field(field_name) if may_sort else None

    @property
    def is_cut(self) -> bool:
        """Whether there are more rows than numbered pages."""
        return bool(getattr(self.paginator, "is_cut", False))

    @property
    def older_url(self) -> str:
        """The URL of the same list after the end of this page."""
        return self.get_query_string({"id__lt": self.result_list[-1].pk}, ["p"])

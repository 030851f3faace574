"""The lookups that a list accepts from its URL: those that our pages write, and no others.

Django accepts any lookup on a model's own columns. With `kwargs__regex` a value that no page
shows could be read character by character.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib.admin.utils import get_fields_from_path
from django.contrib.admin.widgets import url_params_from_lookup_dict
from django.db.models import Field
from django.http import HttpRequest

COMPARISONS = ("exact", "in", "isnull", "gte", "gt", "lte", "lt")
"""Lookups that Django's own list filters use."""

DATES = ("year", "month", "day", "gte", "lt")


def is_allowed(admin: Any, lookup: str, value: Any, request: HttpRequest) -> bool:
    """Tell whether a list may be filtered by this lookup."""
    if lookup in admin.linked_lookups or lookup in _of_filters(admin, request):
        return True
    return any(
        (lookup, value)
        in url_params_from_lookup_dict(limit() if callable(limit) else limit).items()
        for limit in admin.opts.related_fkey_lookups
    )


def _of_filters(admin: Any, request: HttpRequest) -> set[str]:
    """Give the lookups that the list's own filters write into URLs."""
    found = {name for item in admin.get_list_filter(request) for name in _of_filter(admin, item)}
    if admin.date_hierarchy:
        found |= {f"{admin.date_hierarchy}__{part}" for part in DATES}
    return found


def _of_filter(admin: Any, item: Any) -> Iterator[str]:
    if hasattr(item, "parameter_name"):
        yield item.parameter_name
        return
    path = item[0] if isinstance(item, (list, tuple)) else item
    if callable(path):
        return  # a filter class of the project, which allows its own parameters
    path = path.name if isinstance(path, Field) else path
    yield path
    yield from (f"{path}__{comparison}" for comparison in COMPARISONS)
    field: Any = get_fields_from_path(admin.model, path)[-1]
    if field.is_relation:
        key = field.target_field.name if hasattr(field, "target_field") else "id"
        yield f"{path}__{key}__exact"

"""Functions that need the models, found when they are first called.

Task modules import the public names before Django's app registry is ready; what these names
do happens after that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any


def late(module: str, name: str) -> Callable[..., Any]:
    """Give a function that calls `module.name`, imported at the first call."""

    @cache
    def target() -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(import_module(module), name)
        return found

    def call(*args: Any, **kwargs: Any) -> Any:
        return target()(*args, **kwargs)

    return call

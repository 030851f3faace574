"""The tasks that call another task for each item of a list, in one node."""

from __future__ import annotations

MAP, STARMAP = "backbeat.map", "backbeat.starmap"
"""Their names. Their keyword arguments are the other task's name, `task`, and the list, `it`."""

"""Test workflows with the real engine, in milliseconds and reproducibly.

The Simulation is imported on first access: pytest loads the plugin in this package before Django
is set up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backbeat_celery.testing.simulation import Call as Call
    from backbeat_celery.testing.simulation import Simulation as Simulation

__all__ = ["Call", "Simulation"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from backbeat_celery.testing import simulation

    return getattr(simulation, name)

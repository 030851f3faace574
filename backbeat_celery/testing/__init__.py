"""Test workflows with the real engine, in milliseconds, and the same way each time."""

from backbeat_celery.testing.simulation import Call, Simulation

__all__ = ["Call", "Simulation"]

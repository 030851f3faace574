"""Fixtures of the unit tests."""

from tests.integration.conftest import script

__all__ = ["script"]

import pytest

for name in ("machine", "compare", "steering"):
    pytest.register_assert_rewrite(f"tests.stateful.{name}")

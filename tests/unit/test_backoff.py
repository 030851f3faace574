"""Exponential backoff, and batches."""

from __future__ import annotations

import pytest

from backbeat_celery.runtime.backoff import exponential
from backbeat_celery.runtime.batches import batched


@pytest.mark.parametrize(
    ("exponent", "seconds"), [(0, 3.0), (1, 6.0), (2, 12.0), (3, 20.0), (10**6, 20.0)]
)
def test_a_wait_doubles_up_to_the_longest(exponent, seconds):
    assert exponential(3.0, exponent, 20.0) == seconds


def test_batches_keep_the_order():
    assert list(batched("abcde", 2)) == ["ab", "cd", "e"]
    assert list(batched({7: 1}, 2)) == [[7]]
    assert list(batched([], 2)) == []

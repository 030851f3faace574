"""Texts are cut to a length, the ellipsis included."""

from __future__ import annotations

from backbeat_celery.runtime.text import one_line, quote, shorten, shorten_start


def test_a_short_text_stays():
    assert shorten("abc", 3) == shorten_start("abc", 3) == "abc"


def test_a_long_text_is_cut_at_its_end_or_its_start():
    assert shorten("abcdef", 4) == "abc…"
    assert shorten("abcdef", 5, "...") == "ab..."
    assert shorten_start("abcdef", 4) == "…def"


def test_one_line_has_no_line_breaks():
    assert one_line(" a\n b\tc ", 4) == "a b…"


def test_a_value_without_a_repr_is_quoted():
    class Broken:
        def __repr__(self):
            raise ValueError

    assert quote(Broken()) == "<Broken without a repr>"
    assert len(quote("x" * 999)) == 200

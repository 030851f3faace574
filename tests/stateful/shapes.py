"""Random trees as plain data: what handlers are called with and the model is built from."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

MODES = st.sampled_from(["blocking", "non_blocking", "fire_and_forget"])
LEAST = {"mode": "blocking", "barrier": False, "delay": None, "key": None, "failures": 0}


@st.composite
def shapes(draw: Any, depth: int = 2, is_signal: bool = False) -> dict[str, Any]:
    """A tree; labels are given when it is used."""
    kinds = ["patient", "patient", "brittle"] + ([] if is_signal else ["flag"])
    shape = {**LEAST, "kind": draw(st.sampled_from(kinds)), "mode": draw(MODES), "children": []}
    if shape["mode"] == "blocking" and not is_signal:
        shape["barrier"] = draw(st.sampled_from([False, False, True]))
    shape["delay"] = draw(st.sampled_from([None, None, None, 5, 61, 3600]))
    shape["key"] = draw(st.sampled_from([None, None, None, "k1", "k2"]))
    if shape["kind"] != "flag":
        shape["failures"] = draw(st.sampled_from([0, 0, 0, 0, 1, 2, 3]))
        if depth:
            shape["children"] = draw(st.lists(shapes(depth=depth - 1), max_size=4 - depth % 2))
    return shape


SIGNALS = shapes(is_signal=True)
CHILDREN = shapes(depth=1)

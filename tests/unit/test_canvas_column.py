"""The sums and the verdict of the run of Celery's own canvas tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.canvas import classes
from tests.canvas.classes import COUNTS, GOAL_OF_B, LONG, OUTSIDE, B, C, N, counts, of_class
from tests.canvas.column import Column, shortcomings, table

A = [f"test_chain::test_number_{n}" for n in range(COUNTS["A"])]
ALL = [*A, *B, *C, *N]


def passed(tests: list[str]) -> Column:
    return Column(dict.fromkeys(tests, "passed"))


def test_no_test_is_in_two_classes() -> None:
    assert len(B | C | N) == len(B) + len(C) + len(N)
    assert not OUTSIDE & (B | C | N)
    assert not LONG.keys() & (C | N)


def test_the_counts_are_those_of_the_named_tests() -> None:
    assert counts(ALL) == COUNTS
    assert sum(COUNTS.values()) == 212


def test_a_new_test_of_the_suite_changes_the_counts() -> None:
    assert counts([*ALL, "test_chain::test_new"]) != COUNTS


def test_a_test_outside_of_the_bar_is_not_run() -> None:
    (outside,) = OUTSIDE
    assert of_class([outside, A[0]], "A") == [A[0]]


def test_a_run_in_which_all_pass_is_enough() -> None:
    assert shortcomings(ALL, {"plain": passed(ALL), "ours": passed(ALL)}) == []


@pytest.mark.parametrize("name", ["plain", "ours"])
def test_one_failure_of_class_a_is_not_enough_in_either_column(name: str) -> None:
    columns = {"plain": passed(ALL), "ours": passed(ALL)}
    columns[name].outcomes[A[3]] = "failure: no"
    (said,) = shortcomings(ALL, columns)
    assert said.startswith("1 of 158 tests of class A fail")


@pytest.mark.parametrize("name", ["plain", "ours"])
def test_a_column_in_which_nothing_ran_is_not_enough(name: str) -> None:
    columns = {"plain": passed(ALL), "ours": passed(ALL), name: Column()}
    assert any(said.startswith("No test was run on") for said in shortcomings(ALL, columns))
    assert shortcomings(A[:1], {name: Column()})


def test_no_test_is_not_enough() -> None:
    assert shortcomings([], {"plain": Column(), "ours": Column()}) == ["No test was run."]


def test_too_few_of_class_b_are_not_enough_on_nodes() -> None:
    some = sorted(B)[: GOAL_OF_B - 1]
    columns = {"plain": passed(ALL), "ours": passed([*A, *some])}
    assert shortcomings([*A, *B], columns) == [
        f"{GOAL_OF_B - 1} of 29 tests of class B pass on nodes, not {GOAL_OF_B}."
    ]
    columns["ours"].outcomes[sorted(B)[-1]] = "passed"
    assert shortcomings([*A, *B], columns) == []


def test_classes_are_counted_apart_in_the_table() -> None:
    columns = {"plain": passed(ALL), "ours": passed(A)}
    lines = table([*A, *B], columns).splitlines()
    assert lines[1].split() == ["A", "158", "158", "158"]
    assert lines[2].split() == ["B", "29", "29", "0"]


def test_a_test_with_parameters_passes_when_all_of_them_do(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        """<testsuites><testsuite>
        <testcase classname="t.integration.test_canvas.test_chain" name="test_one[a]"/>
        <testcase classname="t.integration.test_canvas.test_chain" name="test_one[b]">
          <failure message="assert 1 == 2&#10;more">the traceback</failure></testcase>
        <testcase classname="t.integration.test_canvas.test_chain" name="test_two[a]"/>
        <testcase classname="t.integration.test_canvas.test_chain" name="test_two[b]"/>
        <testcase classname="t.integration.test_canvas.test_chain" name="test_three">
          <skipped message="no broker"/></testcase>
        </testsuite></testsuites>"""
    )
    column = Column()
    column.read(report)
    assert column.outcomes == {
        "test_chain::test_one": "failure: assert 1 == 2",
        "test_chain::test_two": "passed",
        "test_chain::test_three": "skipped: no broker",
    }
    assert column.reasons["test_chain::test_one"] == (
        "test_one[b]: assert 1 == 2\nmore\nthe traceback"
    )


def test_all_names_are_known_by_the_check_of_the_suite() -> None:
    assert B | C | N | OUTSIDE | LONG.keys() | classes.HURRIED == classes.NAMED

"""Three projects move from plain Celery: a line or two of each call site, and no task."""

from __future__ import annotations

import inspect
from difflib import SequenceMatcher
from types import ModuleType
from typing import Any

import pytest
from kombu.exceptions import EncodeError

from backbeat_celery.exceptions import BadInput
from backbeat_celery.models import Node
from tests.integration.canvas import plain, world
from tests.integration.canvas.migrations.checking import after as checking_after
from tests.integration.canvas.migrations.checking import before as checking_before
from tests.integration.canvas.migrations.checking import tasks as checking_tasks
from tests.integration.canvas.migrations.importing import after as importing_after
from tests.integration.canvas.migrations.importing import before as importing_before
from tests.integration.canvas.migrations.importing import tasks as importing_tasks
from tests.integration.canvas.migrations.merging import after as merging_after
from tests.integration.canvas.migrations.merging import before as merging_before
from tests.integration.canvas.migrations.merging import tasks as merging_tasks
from tests.integration.canvas.runners import OnNodes, Runner

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore:task_allow_error_cb_on_chord_header"),
]

MOST = 2
"""Changed lines a call site, its import included."""

SITES = {
    "merging": (merging_before, merging_after, merging_tasks),
    "checking": (checking_before, checking_after, checking_tasks),
    "importing": (importing_before, importing_after, importing_tasks),
}


def functions_of(module: ModuleType) -> dict[str, str]:
    """The source of each function of a module."""
    members = inspect.getmembers(module, inspect.isfunction)
    return {name: inspect.getsource(f) for name, f in members if f.__module__ == module.__name__}


def changed_lines(before: str, after: str) -> int:
    """How many lines that are not empty differ; one in the place of another is one."""
    old, new = ([line for line in text.splitlines() if line] for text in (before, after))
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    changes = [change for change in matcher.get_opcodes() if change[0] != "equal"]
    return sum(max(i2 - i1, j2 - j1) for _, i1, i2, j1, j2 in changes)


def code_of(module: ModuleType) -> str:
    """A module's source without the sentence at its top."""
    return inspect.getsource(module).replace(f'"""{module.__doc__}"""', "")


@pytest.mark.parametrize(("before", "after", "tasks"), SITES.values(), ids=SITES)
def test_a_call_site_changes_by_at_most_two_lines(
    before: ModuleType, after: ModuleType, tasks: ModuleType
) -> None:
    old, new = functions_of(before), functions_of(after)
    assert old.keys() == new.keys() != set()
    for name in old:
        assert changed_lines(old[name], new[name]) <= MOST
    # What the module imports for them is counted, too.
    assert 0 < changed_lines(code_of(before), code_of(after)) <= MOST * len(old)


@pytest.mark.parametrize(("before", "after", "tasks"), SITES.values(), ids=SITES)
def test_the_tasks_are_those_of_plain_celery(
    before: ModuleType, after: ModuleType, tasks: ModuleType
) -> None:
    assert "backbeat" not in inspect.getsource(tasks)
    assert tasks.__name__ in plain.MODULES
    assert "backbeat" not in inspect.getsource(before)


def call_sites(name: str, runner: Runner) -> Any:
    before, after, _ = SITES[name]
    return before if runner.is_celery else after


NUMBERS = {"1": "A-1", "2": "A-2"}


@pytest.mark.parametrize("documents", [[1], [3, 1, 2]])
def test_documents_are_merged_and_then_deleted(runner: Runner, documents: list[int]) -> None:
    call_sites("merging", runner).merge_documents(documents, "Rent", NUMBERS)
    runner.settle()
    assert sorted(world.notes("render")) == [[document, 300] for document in sorted(documents)]
    assert world.notes("merge") == [[[f"<{document}>" for document in documents], "Rent"]]
    assert world.notes()[-1] == ["delete", documents]
    assert not world.notes("restore")


@pytest.mark.parametrize(
    "trouble", [{"damaged": [2]}, {"damaged": [1, 2, 3]}, {"is_full": True}], ids=str
)
def test_nothing_is_deleted_and_the_numbers_are_restored_once(
    runner: Runner, trouble: dict[str, Any]
) -> None:
    for name, value in trouble.items():
        world.put(name, value)
    call_sites("merging", runner).merge_documents([1, 2, 3], "Rent", NUMBERS)
    runner.settle()
    assert len(world.notes("render")) == 3
    assert len(world.notes("merge")) == ("is_full" in trouble)
    assert not world.notes("delete")
    assert world.notes("restore") == [[NUMBERS]]


def test_an_operator_may_let_a_merge_go_on(on_nodes: OnNodes) -> None:
    """What plain Celery cannot do: the body waits, and runs once the member has succeeded."""
    world.put("damaged", [2])
    merging_after.merge_documents([1, 2, 3], "Rent", NUMBERS)
    on_nodes.settle()
    world.put("damaged", [])
    Node.objects.get(status="failed").retry()
    on_nodes.settle()
    assert world.notes("merge") == [[["<1>", "<2>", "<3>"], "Rent"]]
    assert world.notes()[-1] == ["delete", [1, 2, 3]]


def test_a_start_that_is_impossible_is_undone_by_the_caller(runner: Runner) -> None:
    with pytest.raises((EncodeError, BadInput)):
        call_sites("merging", runner).merge_documents([object()], "Rent", NUMBERS)
    runner.settle()
    assert world.notes() == [["restore", NUMBERS]]


def test_a_page_polls_an_upload_that_is_checked(runner: Runner) -> None:
    page = call_sites("checking", runner)
    ids = page.start(5)
    runner.settle()
    shown = page.progress(ids)
    assert shown == {
        "scanned": 3,
        "states": ["SUCCESS", "SUCCESS"],
        "is_done": True,
        "error": "",
        "findings": {
            **{"upload": 5, "steps": ["receive", "unpack 5"], "virus": False},
            **{"licence": "MIT", "size": 703, "published": True},
        },
    }
    assert not world.notes("tell_owner")


def test_the_page_says_at_once_that_it_has_only_begun(on_nodes: OnNodes) -> None:
    ids = checking_after.start(5)
    assert checking_after.progress(ids) == {
        **{"scanned": 0, "states": ["PENDING", "PENDING"], "is_done": False},
        **{"error": "", "findings": None},
    }


def test_a_scan_that_fails_is_told_once_and_shown(runner: Runner) -> None:
    world.put("virus", "EICAR")
    page = call_sites("checking", runner)
    ids = page.start(5)
    runner.settle()
    shown = page.progress(ids)
    assert (shown["scanned"], shown["states"]) == (2, ["FAILURE", "FAILURE"])
    assert shown["is_done"] and "Infected" in shown["error"]
    ((_, upload),) = world.notes("tell_owner")
    assert upload == 5
    assert not world.notes("weigh") and not world.notes("publish")


def test_the_last_step_that_fails_is_told_once_and_shown(runner: Runner) -> None:
    world.put("is_closed", True)
    page = call_sites("checking", runner)
    ids = page.start(5)
    runner.settle()
    shown = page.progress(ids)
    assert (shown["scanned"], shown["states"]) == (3, ["FAILURE", "SUCCESS"])
    assert shown["error"] == "Refused(5)"
    assert world.notes("tell_owner") == [["Refused", 5]]


def test_a_feed_is_imported_with_retries(runner: Runner) -> None:
    world.put("away", 2)
    world.put("busy", {"1": 1, "3": 2})
    id = call_sites("importing", runner).import_feed("prices")
    runner.settle(seconds=30)
    assert world.notes("fetch") == [[0], [1], [2]]
    tries = [1, 2, 1, 3]
    loaded = [{"row": row, "tries": count} for row, count in enumerate(tries)]
    assert world.notes("sum_up") == [[loaded, "prices"]]
    assert len(world.notes("load")) == sum(tries)
    assert runner.result(id).get(timeout=10) == "4 rows of prices"


@pytest.mark.parametrize("rows", [1, 20])
def test_a_feed_of_any_length_is_summed_up_as_a_list(runner: Runner, rows: int) -> None:
    world.put("rows", rows)
    id = call_sites("importing", runner).import_feed("prices")
    runner.settle()
    assert runner.result(id).get(timeout=10) == f"{rows} rows of prices"


def test_a_row_that_never_loads_fails_the_import(runner: Runner) -> None:
    world.put("busy", {"2": 9})
    id = call_sites("importing", runner).import_feed("prices")
    runner.settle(seconds=30)
    assert runner.result(id).state == "FAILURE"
    assert not world.notes("sum_up")
    assert [row for row, _ in world.notes("load")].count(2) == 3
    with pytest.raises(Exception, match="prices"):
        runner.result(id).get(timeout=10)


def test_an_import_goes_on_when_its_row_is_loaded_after_all(on_nodes: OnNodes) -> None:
    world.put("busy", {"2": 9})
    id = importing_after.import_feed("prices")
    on_nodes.settle(seconds=30)
    world.put("busy", {})
    Node.objects.get(status="failed").retry()
    on_nodes.settle()
    assert on_nodes.result(id).get(timeout=1) == "4 rows of prices"
    assert [row for row, _ in world.notes("load")].count(0) == 1

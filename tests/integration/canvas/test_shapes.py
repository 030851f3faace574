"""Canvases in the shapes of real projects: plain Celery and nodes do the same.

Where they differ, the test says so: by `runner.is_celery`, or by a test for nodes alone.
"""

from __future__ import annotations

from typing import Any

import pytest
from celery.exceptions import ChordError
from celery.signals import before_task_publish
from kombu.exceptions import EncodeError

from backbeat_celery import NodeResult, current_node, signal
from backbeat_celery.exceptions import BadInput
from backbeat_celery.models import Node
from tests import workflows
from tests.integration.canvas import world
from tests.integration.canvas.runners import OnNodes, Runner
from tests.integration.canvas.shapes import (
    costs,
    documents,
    forms,
    harvest,
    invoices,
    pages,
    uploads,
)

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore:task_allow_error_cb_on_chord_header"),
]

NUMBERS = {7: "A-7", 12: "A-12"}
AS_JSON = {"7": "A-7", "12": "A-12"}
"""What becomes of keys that are numbers, with Celery's JSON and with ours."""


# Shape 1: a document is split -----------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 40])
def test_a_split_document_is_deleted_after_its_parts_are_consumed(
    runner: Runner, count: int
) -> None:
    result = runner.start(documents.split(703, count, NUMBERS))
    runner.settle()
    consumed = world.notes("consume")
    assert sorted(path for path, _, _ in consumed) == sorted(
        f"part {n}" for n in range(1, count + 1)
    )
    assert {source for _, _, source in consumed} == {"web"}
    assert all(overrides == {"title": path.title()} for path, overrides, _ in consumed)
    assert world.notes()[-1] == ["delete", [703]]
    assert not world.notes("restore")
    assert (result.state, result.get(timeout=10)) == ("SUCCESS", None)


@pytest.mark.parametrize(("count", "damaged"), [(1, [1]), (3, [2]), (3, [1, 2, 3])])
def test_a_part_that_cannot_be_consumed_undoes_the_split_once(
    runner: Runner, count: int, damaged: list[int]
) -> None:
    world.put("damaged", [f"part {n}" for n in damaged])
    result = runner.start(documents.split(703, count, NUMBERS))
    runner.settle()
    assert len(world.notes("consume")) == count
    assert not world.notes("delete")
    # The first argument is the id of the body, whose error callback it is.
    assert world.notes("restore") == [[[result.id, AS_JSON], {}]]
    assert result.state == "FAILURE"
    with pytest.raises((documents.Unreadable, ChordError), match="part"):
        result.get(timeout=10)


def test_without_deletion_it_is_a_group(runner: Runner) -> None:
    result = runner.start(documents.split(703, 3, NUMBERS, keep=True))
    runner.settle()
    assert result.get(timeout=10) == [f"part {n} is consumed" for n in (1, 2, 3)]
    assert [each.get(timeout=10) for each in result.results] == result.get(timeout=10)


def test_a_start_that_is_impossible_raises_and_starts_nothing(runner: Runner) -> None:
    canvas = documents.split(703, 2, NUMBERS)
    canvas.body.args = ([object()],)
    with pytest.raises((EncodeError, BadInput)):
        runner.start(canvas)
    runner.settle()
    assert not world.notes()


# Shape 2: documents are merged -----------------------------------------------------------------


def test_callbacks_of_one_call(runner: Runner) -> None:
    task, callbacks = documents.merged(NUMBERS)
    result = runner.start(task, **callbacks)
    runner.settle()
    assert world.notes() == [["consume", "merged", None, "web"], ["delete", [7, 12]]]
    assert result.get(timeout=10) == "merged is consumed"


def test_error_callbacks_of_one_call(runner: Runner) -> None:
    world.put("damaged", ["merged"])
    task, callbacks = documents.merged(NUMBERS)
    result = runner.start(task, **callbacks)
    runner.settle()
    assert not world.notes("delete")
    assert world.notes("restore") == [[[result.id, AS_JSON], {}]]


# Shape 4: invoices, then the mail --------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_mail_is_sent_after_its_invoices(runner: Runner, count: int) -> None:
    runner.start(invoices.mail_with(list(range(count)), 9))
    runner.settle()
    assert world.notes() == [*(["pdf", n] for n in range(count)), ["send", 9]]


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_the_mail_is_sent_once_when_an_invoice_fails(runner: Runner, broken: int) -> None:
    world.put("broken", [broken])
    result = runner.start(invoices.mail_with([0, 1, 2], 9))
    runner.settle()
    assert world.notes() == [*(["pdf", n] for n in range(broken + 1)), ["send", 9]]
    with pytest.raises(OSError, match="No space left") as caught:
        result.get(timeout=10)
    assert caught.value.args == (28, "No space left on device")


# Shape 5: after a form was submitted -----------------------------------------------------------

NAMES = ["appoint", "announce", "report", "register", "pay", "finalise"]


def test_the_ids_of_all_steps_are_known_at_the_start(runner: Runner) -> None:
    ids = runner.start(forms.submitted(5)).as_list()
    assert len(set(ids)) == len(ids) == len(NAMES)
    runner.settle()
    assert world.notes() == [[name, 5] for name in NAMES]
    # The last step first.
    assert [runner.result(id).get(timeout=10) for id in ids] == NAMES[::-1]
    assert all(runner.result(id).ready() for id in ids)


def test_a_step_that_fails_fails_all_behind_it(runner: Runner) -> None:
    world.put("down", ["register"])
    ids = runner.start(forms.submitted(5)).as_list()[::-1]
    runner.settle()
    states = [runner.result(id).state for id in ids]
    assert states == ["SUCCESS"] * 3 + ["FAILURE"] * 3
    for id in ids[3:]:
        with pytest.raises(forms.NotPaid) as caught:
            runner.result(id).get(timeout=10)
        assert caught.value.args == ("register", 5)
    assert world.notes() == [[name, 5] for name in NAMES[:4]]


def test_what_a_task_starts_by_itself_stays_celerys(runner: Runner) -> None:
    sent: list[str] = []

    def note_sent(sender: str = "", **_: Any) -> None:
        sent.append(sender)

    world.put("is_open", True)
    # Celery 5.6 loses sight of all receivers once a weak one has died.
    before_task_publish.connect(note_sent, weak=False)
    try:
        runner.start(forms.submitted(5))
        runner.settle()
    finally:
        before_task_publish.disconnect(note_sent)
    if runner.is_celery:
        assert world.notes()[-1] == ["remind", 5]
    else:
        assert sent.count(forms.remind.name) == 1
        assert not Node.objects.filter(task=forms.remind.name).exists()


def test_a_page_sees_each_step_while_the_chain_runs(on_nodes: OnNodes) -> None:
    ids = on_nodes.start(forms.submitted(5)).as_list()[::-1]
    seen = []
    while True:
        seen.append([NodeResult(id).state for id in ids].count("SUCCESS"))
        if not on_nodes.sim.step():
            break
    assert seen[0] == 0 and seen[-1] == 6
    assert sorted(set(seen)) == list(range(7))


def test_a_retry_goes_on_where_the_chain_stopped_and_keeps_its_ids(on_nodes: OnNodes) -> None:
    """Where the project started the whole chain again."""
    world.put("down", ["register"])
    ids = on_nodes.start(forms.submitted(5)).as_list()
    on_nodes.settle()
    world.put("down", [])
    Node.objects.get(status="failed").retry()
    on_nodes.settle()
    assert [name for name, _ in world.notes()] == [*NAMES[:4], *NAMES[3:]]
    assert [NodeResult(id).get(timeout=1) for id in ids] == NAMES[::-1]


def test_a_second_start_for_the_same_subject_waits_for_the_first(on_nodes: OnNodes) -> None:
    world.put("down", ["register"])
    first = on_nodes.start(forms.submitted(5))
    on_nodes.settle()
    second = on_nodes.start(forms.submitted(5))
    world.put("down", [])
    on_nodes.settle()
    assert (first.state, second.state) == ("FAILURE", "PENDING")
    failed = Node.objects.get(status="failed")
    assert str(failed.pk) in second.node.explain() or failed.name in second.node.explain()
    failed.shutdown()
    on_nodes.settle()
    assert second.get(timeout=1) == "finalise"


# Shape 6: an upload is checked -----------------------------------------------------------------


@pytest.mark.parametrize("scanners", [["yara"], ["forward", "yara", "customs", "wat"]])
def test_a_large_dictionary_goes_through_all_steps(runner: Runner, scanners: list[str]) -> None:
    result = runner.start(uploads.checked(3, 1, scanners))
    runner.settle()
    # Somebody else knows the id alone.
    found = runner.result(result.id).get(timeout=10)
    assert len(str(found["messages"])) > 50_000
    assert found["steps"] == [
        *("begin", "repack 3", "validate 3 1", "keys 3", f"{scanners[0]} 3"),
        *("rate 3", "save 3 1 True"),
    ]
    assert world.notes("rate 3") == [[500]]
    # One member gives a list, too, and the list is in the order as written.
    assert world.notes("rate") == [[3, [f"{scanner} 3" for scanner in scanners]]]


def test_a_last_step_may_take_nothing(runner: Runner) -> None:
    result = runner.start(uploads.checked(3, 1, ["yara"], is_last=True))
    runner.settle()
    assert result.get(timeout=10) == "3 is finished"


def test_what_fails_is_the_step_that_saves(runner: Runner) -> None:
    world.put("rejects", True)
    result = runner.start(uploads.checked(3, 1, ["yara", "wat"], is_last=True))
    runner.settle()
    with pytest.raises(uploads.Rejected) as caught:
        runner.result(result.id).get(timeout=10)
    assert caught.value.args == (3, {"channel": 1})
    assert not world.notes("finish")


# Shape 8: harvesting ---------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_session_is_finished_after_its_resources(runner: Runner, count: int) -> None:
    result = runner.start(harvest.harvested(list(range(count)), 8))
    runner.settle()
    assert sorted(world.notes("fetch")) == [[n, 8, "now"] for n in range(count)]
    assert world.notes()[-1] == ["finish", 8, "now"]
    assert result.get(timeout=10) == "session 8 is done"


def test_options_of_the_call_are_the_same(runner: Runner) -> None:
    result = runner.start(harvest.harvested([1, 2], 8), expires=60)
    runner.settle()
    assert result.get(timeout=10) == "session 8 is done"


def test_the_error_callback_of_a_body_reads_why(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not runner.is_celery:
        # The one line in a task that knows of results: it imports another name.
        monkeypatch.setattr(harvest, "AsyncResult", NodeResult)
    world.put("unreachable", [2])
    result = runner.start(harvest.harvested([1, 2, 3], 8))
    runner.settle()
    assert not world.notes("finish")
    ((task_id, state, why, has_trace, args, kwargs),) = world.notes("fail")
    assert (task_id, args, kwargs) == (result.id, [], {"session": 8})
    if runner.is_celery:
        return  # it sends the callback first, and then stores what it is to read
    assert (state, has_trace, why) == ("FAILURE", True, "2")


def test_what_has_not_begun_in_time_is_canceled(on_nodes: OnNodes) -> None:
    result = on_nodes.start(harvest.harvested([1, 2], 8, expires=60))
    result.node.workflow.pause()
    on_nodes.settle(seconds=70)
    result.node.workflow.resume()
    on_nodes.settle()
    assert not world.notes("fetch")
    members = Node.objects.filter(task=harvest.fetch.name)
    assert [node.history[-1].reason for node in members] == ["expired"] * 2


def test_a_chord_is_signalled_once_by_a_task_that_is_tried_again(
    on_nodes: OnNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(task: Any) -> None:
        signal(harvest.harvested([1, 2], 8), subject="session 8")
        if current_node().attempt == 1:
            raise RuntimeError("after the signal")

    monkeypatch.setitem(workflows.scripts, "main", start)
    signal(workflows.scripted.s(), subject="session 8")
    on_nodes.settle(seconds=60)
    assert sorted(world.notes()) == [
        *(["fetch", n, 8, "now"] for n in (1, 2)),
        ["finish", 8, "now"],
    ]


# Shape 10: cost reports ------------------------------------------------------------------------

MONTHS = [f"2030-{month:02}" for month in range(1, 13)]


@pytest.mark.parametrize("months", [MONTHS[:1], MONTHS])
def test_each_of_four_bodies_gets_the_same_list(runner: Runner, months: list[str]) -> None:
    world.put("empty", months[1:3])
    result = runner.start(costs.reported(months))
    runner.settle()
    found = [None if month in months[1:3] else f"org7 {month}" for month in months]
    assert world.notes("summary") == [[found, [1, 2]]]
    assert world.notes("instances") == [[found]]
    assert world.notes("licences") == [[found, "org7"]]
    assert world.notes("warehouse") == [[found, True]]
    count = len(months)
    assert result.get(timeout=10) == [
        f"{what} of {count}" for what in ("summary", "instances", "licences", "warehouse")
    ]


def test_arguments_are_taken_when_the_chord_is_started(runner: Runner) -> None:
    runner.start(costs.reported(MONTHS[:3]))
    runner.settle()
    last = {"month": MONTHS[2], "count": 3}
    assert sorted(world.notes("download")) == [
        [month, last, f"t-{month}", month == MONTHS[2]] for month in MONTHS[:3]
    ]


def test_a_body_that_fails_lets_the_others_go_on(runner: Runner) -> None:
    world.put("broken", ["licences"])
    result = runner.start(costs.reported(MONTHS[:2]))
    runner.settle()
    for what in ("summary", "instances", "licences", "warehouse"):
        assert len(world.notes(what)) == 1
    assert [each.state for each in result.results] == ["SUCCESS", "SUCCESS", "FAILURE", "SUCCESS"]
    with pytest.raises(ArithmeticError):
        result.get(timeout=10)


def test_bodies_whose_header_expires_are_canceled_with_it(on_nodes: OnNodes) -> None:
    canvas = costs.reported(MONTHS[:2])
    for task in canvas.tasks:
        task.set(expires=60)
    result = on_nodes.start(canvas)
    result.node.workflow.pause()
    on_nodes.settle(seconds=70)
    result.node.workflow.resume()
    on_nodes.settle()
    assert not world.notes()
    assert {each.state for each in result.results} == {"REVOKED"}


def test_without_a_body_it_is_a_group(runner: Runner) -> None:
    result = runner.start(costs.reported(MONTHS[:2], only_download=True))
    runner.settle()
    assert result.get(timeout=10) == [f"org7 {month}" for month in MONTHS[:2]]


# Shape 14: a step replaces itself --------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 20])
def test_a_replaced_step_hands_on_what_its_replacement_gives(runner: Runner, count: int) -> None:
    result = runner.start(pages.recognised("a.pdf", count))
    runner.settle()
    assert result.get(timeout=10) == " ".join(str(n) for n in range(1, count + 1))
    assert world.notes("fan_out") == [[count]]
    assert world.notes("collect") == ([[count]] if count else [])
    assert world.notes("store") == [["a.pdf"]]


def test_a_page_that_fails_for_good_fails_the_outer_chain(runner: Runner) -> None:
    world.put("blurred", [3])
    result = runner.start(pages.recognised("a.pdf", 5))
    runner.settle(seconds=60)
    tries = [page for (page,) in world.notes("read")]
    assert tries.count(3) == 3
    assert sorted(set(tries)) == [1, 2, 3, 4, 5] and len(tries) == 7
    assert world.notes("fan_out") == [[5]]
    assert not world.notes("collect") and not world.notes("store")
    assert result.state == "FAILURE"
    with pytest.raises((pages.Blurred, ChordError)):
        result.get(timeout=10)


def test_a_page_that_is_read_after_all_lets_the_outer_chain_go_on(on_nodes: OnNodes) -> None:
    world.put("blurred", [3])
    result = on_nodes.start(pages.recognised("a.pdf", 5))
    on_nodes.settle(seconds=60)
    world.put("blurred", [])
    Node.objects.get(status="failed").retry()
    on_nodes.settle()
    assert result.get(timeout=1) == "1 2 3 4 5"
    assert world.notes("fan_out") == [[5]]

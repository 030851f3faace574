"""The statements of PostgreSQL leave the very rows that the portable steps leave."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from celery import signature
from django.db import connection, transaction

from backbeat_celery import current_node, signal, signal_many
from backbeat_celery.engine.order import placement
from backbeat_celery.engine.statements import bundles, children, claim, completion, record, signals
from backbeat_celery.exceptions import WorkflowClosed
from backbeat_celery.models import Attempt, Link, Node, Transition, Workflow
from backbeat_celery.runtime import failpoints
from backbeat_celery.sql import session
from backbeat_celery.sql.statement import Statement
from backbeat_celery.testing import Simulation
from tests import statements, workflows
from tests.integration.test_statements import Statements

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.exact,
    statements.NEEDED,
]
START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
HOUR = timedelta(hours=1)
MODELS = [Link, Attempt, Transition, Node, Workflow]
Script = Callable[..., None]
SCENARIOS: dict[str, Callable[[Simulation, Script], None]] = {}


def scenario(function: Callable[[Simulation, Script], None]) -> None:
    SCENARIOS[function.__name__] = function


def spawning(*children: dict[str, Any]) -> Any:
    return workflows.tree.s({"spawn": list(children)})


@scenario
def signals_of_one_workflow(sim, script):
    for number in range(4):
        signal(workflows.done.s({"n": number, "ä": "\u2028'%$1"}), subject="camera")
    sim.run()
    signal(workflows.done.s(), subject="camera", name="other", metadata={"of": [1, None]})


@scenario
def signals_in_every_mode(sim, script):
    for mode in ("non_blocking", "blocking", "fire_and_forget", "blocking", "non_blocking"):
        signal(workflows.done.s(mode), subject="camera", mode=mode)
    sim.run()
    Workflow.objects.get().close()
    sim.run()
    signal(workflows.done.s("in the next run"), subject="camera")
    sim.run()


@scenario
def signals_for_later(sim, script):
    for delay in (0, 5, 40, 4000):
        signal(workflows.done.s(delay), subject="camera", delay=delay)
        signal(workflows.done.s(delay), subject=f"lens {delay}", delay=delay + 1)
    sim.advance(hours=2)


@scenario
def signals_in_transactions(sim, script):
    with transaction.atomic():
        signal(workflows.done.s(), subject="camera")
        with transaction.atomic():
            signal(workflows.done.s(), subject="camera")
            transaction.set_rollback(True)
        signal(workflows.done.s(), subject="lens")
    signal_many([(workflows.done.s(n), {"subject": f"{n % 2}"}) for n in range(4)])
    signal_many([(workflows.done.s(n), {"subject": f"{n % 2}", "key": "k"}) for n in range(2)])
    sim.run()


@scenario
def many_signals_at_once(sim, script):
    signal(workflows.done.s(), subject="3", mode="non_blocking")
    signal(workflows.done.s(), subject="5")
    modes = ("non_blocking", "blocking", "fire_and_forget")
    later = (
        {},
        {"delay": 30},
        {"delay": 0.1},
        {"fires_at": START + HOUR},
        {"metadata": {"ä": [1]}},
    )
    options = [
        {"subject": f"{n * 7 % 10}", "name": "ä\U0001f408"[: n % 3] or None, "mode": modes[n % 3]}
        | later[n % 5]
        for n in range(60)
    ]
    calls = [workflows.done.s(n, a="\u2028'%$1\\").set(priority=n % 2) for n in range(60)]
    signal_many(zip(calls, options, strict=True))
    sim.run()
    with transaction.atomic():
        signal_many(zip(calls, options, strict=True))
        with transaction.atomic():
            signal_many(zip(calls, options, strict=True))
            transaction.set_rollback(True)
    sim.advance(hours=2)


@scenario
def signals_that_close_their_runs(sim, script):
    modes = ("blocking", "non_blocking", "fire_and_forget")
    for close in (False, True):
        for number, mode in enumerate(modes):
            options = {"subject": f"{number}", "mode": mode, "delay": 5 * number, "close": close}
            signal(workflows.done.s(close), **options)
    signal(workflows.done.s("new and closed"), subject="lens", delay=60, close=True)
    # Those of signals without a subject are made up, and would differ.
    options = [
        {"subject": f"{n % 5} of many", "mode": modes[n % 3], "close": n % 4 == 0}
        for n in range(20)
    ]
    signal_many((workflows.done.s(n), o) for n, o in enumerate(options))
    sim.advance(minutes=2)
    signal_many((workflows.done.s(n), o) for n, o in enumerate(options))
    sim.run()


@scenario
def many_signals_of_which_one_finds_its_run_closed(sim, script):
    for subject in ("open", "shut"):
        signal(workflows.done.s(), subject=subject)
    Workflow.objects.get(subject="shut").close()
    items = [(workflows.done.s(), {"subject": name}) for name in ("new", "open", "shut", "too")]
    with pytest.raises(WorkflowClosed):
        signal_many(items)
    sim.run()
    signal_many(items)
    sim.run()


@scenario
def signals_with_options(sim, script):
    options = {"queue": "other", "priority": 3}
    signal(workflows.done.s(1, a={"b": [2]}).set(**options), subject="camera")
    signal(workflows.awaiting.s(), subject="camera", mode="non_blocking")
    signal(workflows.done.s(), subject="camera", mode="non_blocking")
    sim.run()
    Node.objects.get(task=workflows.awaiting.name).complete("done")
    sim.run()


@scenario
def children_in_every_mode(sim, script):
    modes = ("non_blocking", "blocking", "non_blocking", "fire_and_forget", "blocking", "blocking")
    signal(spawning(*[{"mode": mode} for mode in modes]), subject="camera")
    sim.run()


@scenario
def children_with_everything(sim, script):
    def work(task):
        node = current_node()
        if node.attempt > 1:
            return
        call = workflows.done.s(Decimal("1.50"), a={"ä": "\u2028'%$1\\\x00", "b": [None, START]})
        said = {"metadata": {"ä": [1, {"b": 2**60}]}, "delay": 30}
        node.spawn(
            call.set(priority=3, queue="other"), key="k'\u2028", mode="non_blocking", **said
        )
        node.spawn(signature("other.task", queue="other"), fires_at=START + 9 * HOUR)
        node.spawn(workflows.awaiting.s(), mode="fire_and_forget")
        node.flag("a flag", barrier=True)
        node.spawn(workflows.done.s("x" * 500))

    script(work)
    signal(workflows.scripted.s(), subject="camera")
    sim.advance(hours=2)


@scenario
def families(sim, script):
    below = {"spawn": [{"mode": "non_blocking"}, {"mode": "blocking"}]}
    signal(spawning({"shape": below}, {"mode": "non_blocking", "shape": below}), subject="camera")
    sim.run()


@scenario
def a_barrier(sim, script):
    parallel = [{"mode": "non_blocking"}] * 3
    signal(spawning(*parallel, {"barrier": True}, {}, *parallel), subject="camera")
    sim.run()


@scenario
def flags_between_blocking_children(sim, script):
    flags = [{"flag": "one"}, {"flag": "two", "delay": 60}]
    signal(spawning({}, *flags, {}, {"flag": "three", "mode": "non_blocking"}), subject="camera")
    sim.run()
    sim.advance(minutes=5)


@scenario
def children_for_later(sim, script):
    delays = ({}, {"delay": 5}, {"mode": "non_blocking", "delay": 90}, {"delay": 4000}, {})
    signal(spawning(*delays), subject="camera")
    sim.advance(hours=3)


@scenario
def failures_and_retries(sim, script):
    signal(workflows.flaky.s(1), subject="camera")
    signal(workflows.fatal.s(), subject="lens")
    signal(workflows.done.s("held back"), subject="lens")
    sim.advance(hours=1)
    Node.objects.get(task=workflows.fatal.name).resolve(by="me")
    sim.run()


@scenario
def results_of_each_kind(sim, script):
    results = [None, [], {}, "ä", Decimal("1.50"), START, {"a": [1, {"b": None}]}]
    script(lambda task: results.pop(0))
    for _ in list(results):
        signal(workflows.scripted.s(), subject="camera", mode="non_blocking")
    sim.run()


@scenario
def progress_that_was_not_written(sim, script):
    def work(task):
        with transaction.atomic():
            current_node().progress(3, 4, "ä")

    script(work)
    signal(workflows.scripted.s(), subject="camera", mode="non_blocking")
    signal(workflows.scripted.s(), subject="lens")
    signal(workflows.done.s(), subject="lens")
    sim.run()


@scenario
def an_atomic_handler(sim, script):
    script(lambda task: "done")
    signal(workflows.scripted_atomic.s(), subject="camera")
    signal(workflows.done.s(), subject="camera")
    sim.run()


@scenario
def a_child_added_while_the_handler_runs(sim, script):
    def work(task):
        Node.objects.get(pk=current_node().id).add_child(workflows.done.s("late"))

    script(work)
    signal(workflows.scripted.s(), subject="camera")
    signal(workflows.done.s(), subject="camera")
    sim.run()


@scenario
def a_link_from_another_workflow(sim, script):
    signal(workflows.linking.s("lens"), subject="camera")
    signal(workflows.done.s(), subject="camera")
    sim.run()


@scenario
def signals_from_a_handler(sim, script):
    def work(task):
        for number in range(2):
            signal(workflows.done.s(number), subject="lens")
        if current_node().attempt == 1:
            raise RuntimeError("after the signals")

    script(work)
    signal(workflows.scripted.s(), subject="camera")
    sim.advance(minutes=10)


@scenario
def a_pause(sim, script):
    signal(spawning({}, {"mode": "non_blocking"}, {}), subject="camera")
    sim.step()
    workflow = Workflow.objects.get()
    workflow.pause(by="me")
    sim.advance(minutes=2)
    signal(workflows.done.s(), subject="camera")
    workflow.resume(by="me")
    sim.run()


@scenario
def canceled_siblings(sim, script):
    signal(spawning({}, {}, {}), subject="camera")
    sim.step()
    sim.lose_messages()
    Node.objects.get(seq=1, parent__parent__isnull=False).cancel(by="me")
    sim.advance(minutes=5)


@scenario
def messages_lost_and_doubled(sim, script):
    signal(spawning({}, {"mode": "non_blocking"}, {"mode": "non_blocking"}, {}), subject="camera")
    sim.step()
    sim.duplicate_messages()
    sim.step()
    sim.lose_messages()
    sim.advance(minutes=5)


@scenario
def messages_that_come_twice(sim, script):
    signal(spawning({"mode": "non_blocking"}, {}, {}), subject="camera")
    while sim.in_flight:
        sim.duplicate_messages()
        sim.run()


@scenario
def workers_that_die(sim, script):
    signal(spawning({}, {"mode": "non_blocking"}, {"mode": "non_blocking"}, {}), subject="camera")
    sim.step()
    for point in ("before_handler", "after_handler", "after_record"):
        sim.kill_next(point)
        sim.advance(minutes=5)


@scenario
def an_attempt_that_was_given_up(sim, script):
    def work(task):
        if current_node().attempt == 1:
            Node.objects.filter(pk=current_node().id).update(lease_expires_at=START - HOUR)
            sim.sweep()
            sim.kill_next("before_handler")
            sim.step()
        return current_node().attempt

    script(work)
    for mode in ("blocking", "non_blocking"):
        signal(workflows.scripted.s(), subject=mode, mode=mode)
        sim.advance(minutes=5)


@scenario
def a_rescue(sim, script):
    script(lambda node_id: "saved", name="rescue")
    signal(workflows.rescued.s(), subject="camera")
    sim.advance(minutes=5)


@scenario
def a_bundle(sim, script):
    def work(task, number):
        current_node().progress(number)
        if number == 2 and task.request.retries == 0:
            raise RuntimeError("number 2")
        return {"number": number}

    script(work, "bundled")
    signatures = [workflows.bundled.s(number) for number in range(12)]
    script(lambda task: current_node().spawn_many(signatures, mode="non_blocking") and None)
    signal(workflows.scripted.s(), subject="camera")
    signal_many([(workflows.bundled.s(n), {"subject": f"{n}"}) for n in range(3)])
    sim.advance(minutes=1)


@scenario
def blocking_nodes_in_bundles(sim, script):
    def work(task, number):
        if number == 6:
            current_node().spawn(workflows.done.s())
        if number == 12:
            raise RuntimeError("number 12")
        return {"number": number}

    def parent(task):
        current_node().spawn(workflows.bundled.s(100))
        if current_node().subject == "with a flag":
            current_node().flag("in between")
        current_node().spawn(workflows.done.s())

    script(work, "bundled")
    script(parent)
    for subject in ("with a flag", "without"):
        signal(workflows.scripted.s(), subject=subject)
    sim.step()
    sim.step()
    sim.lose_messages()
    waiting = signal(workflows.done.s(), subject="waiting", delay=1)
    signal(workflows.bundled.s(4), subject="4", link=waiting)
    later = {"mode": "non_blocking", "delay": 30}
    for tens, said in enumerate([{}, {"mode": "non_blocking"}, {}, later, {}, {}]):
        calls = [(workflows.bundled.s(10 * tens + n), {"subject": f"{n}"}) for n in range(7)]
        calls = [one for one in calls if tens or one[1]["subject"] != "4"]
        signal_many([(call, {**where, **said}) for call, where in calls])
    Workflow.objects.get(subject="3").close()
    sim.lose_messages()
    sim.advance(minutes=1)
    Workflow.objects.get(subject="5").pause()
    sim.advance(hours=2)


@contextmanager
def path(sim: Simulation, which: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take one of the ways: portable, statement by statement, or several at once."""
    monkeypatch.setattr(session, "is_enabled", which != "portable")
    with failpoints.watched(sim._on_failpoint, in_transactions=which != "pieces"):
        yield


def compare(name: str, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for which in ("portable", "statements", "pieces"):
        empty()
        with Simulation(seed=7, start=START) as sim, path(sim, which, monkeypatch):
            SCENARIOS[name](sim, script)
        assert Node.objects.exists()
        found[which] = everything()
    for which in ("statements", "pieces"):
        for table, rows in found["portable"].items():
            assert found[which][table] == rows, (which, table)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_rows_are_the_same_by_each_path(name, script, monkeypatch):
    compare(name, script, monkeypatch)


def _rewritten(
    patch: pytest.MonkeyPatch, module: Any, name: str, *changes: tuple[str, str]
) -> None:
    """Change the text of a statement."""
    old = getattr(module, name)
    olds = old if isinstance(old, tuple) else (old,)
    news = []
    for statement in olds:
        text = statement._template
        for before, after in changes:
            assert before in text, before
            text = text.replace(before, after)
        news.append(Statement(f"{statement.name}_wrong", text, reaches=statement.reaches))
    patch.setattr(module, name, tuple(news) if isinstance(old, tuple) else news[0])


FENCE = ("attempt = $2::int AND claim_id = $3::uuid", "coalesce($2::int, 0) >= 0")
# The unique number of an attempt would stop the liar as well.
TWICE = ("{succeeded} FROM ended", "{succeeded} FROM ended ON CONFLICT DO NOTHING")


def records_stale_attempts(patch: pytest.MonkeyPatch) -> None:
    """The statement that records a leaf believes an attempt that was fenced off."""
    for name in ("_leaf", "_blocking_leaf"):
        _rewritten(patch, record, name, FENCE, TWICE)


def records_over_children(patch: pytest.MonkeyPatch) -> None:
    """It does not see that a child was added while the handler ran."""
    for name in ("_leaf", "_blocking_leaf"):
        _rewritten(patch, record, name, ("AND next_seq = 0", ""))


def opens_the_whole_line(patch: pytest.MonkeyPatch) -> None:
    """It queues what stands behind the next blocking child, too."""
    bound = ("awaited.awaited_by = $8::uuid", "FALSE AND awaited.awaited_by = $8::uuid")
    _rewritten(patch, record, "_blocking_leaf", bound)


def opens_nothing(patch: pytest.MonkeyPatch) -> None:
    """It forgets who waits."""
    never = ("WHERE sibling.parent_id", "WHERE FALSE AND sibling.parent_id")
    _rewritten(patch, record, "_blocking_leaf", never)


def opens_the_whole_line_of_a_bundle(patch: pytest.MonkeyPatch) -> None:
    """The statement for bundles queues what stands behind the next blocking child, too."""
    bound = ("awaited.awaited_by = done.line", "FALSE AND awaited.awaited_by = done.line")
    _rewritten(patch, bundles, "_leaves", bound)


def opens_what_is_behind_others(patch: pytest.MonkeyPatch) -> None:
    """It queues siblings of nodes that it has not ended."""
    _rewritten(
        patch, bundles, "_leaves", ("JOIN ended ON ended.line = turn.line", "JOIN ended ON TRUE")
    )


def sees_everything_settled(patch: pytest.MonkeyPatch) -> None:
    """The short look says that there is nothing to do."""
    patch.setattr(completion, "says_settled", lambda found: True)


def claims_what_is_claimed(patch: pytest.MonkeyPatch) -> None:
    """The statement that claims takes a message for a second attempt's."""
    guard = ("node.status = {queued} AND node.attempt = 0", "node.attempt = 1")
    _rewritten(patch, claim, "_one", guard)


def forgets_who_waits(patch: pytest.MonkeyPatch) -> None:
    """The statement that inserts children does not tell that their parent waits for them."""
    _rewritten(
        patch,
        children,
        "_insert",
        ("CASE WHEN counts THEN coalesce(parent, $3::uuid)", "CASE WHEN FALSE THEN $3::uuid"),
    )


def signals_past_what_holds(patch: pytest.MonkeyPatch) -> None:
    """The statement that signals does not see the blocking one before it."""
    _rewritten(patch, signals, "_append", ("WHEN run.is_held", "WHEN NOT run.is_held"))


@pytest.mark.parametrize(
    ("mutant", "name"),
    [
        (records_stale_attempts, "an_attempt_that_was_given_up"),
        (records_over_children, "a_child_added_while_the_handler_runs"),
        (opens_the_whole_line, "signals_of_one_workflow"),
        (opens_nothing, "signals_of_one_workflow"),
        (opens_the_whole_line_of_a_bundle, "blocking_nodes_in_bundles"),
        (opens_what_is_behind_others, "blocking_nodes_in_bundles"),
        (sees_everything_settled, "children_in_every_mode"),
        (claims_what_is_claimed, "messages_that_come_twice"),
        (signals_past_what_holds, "signals_in_every_mode"),
        (forgets_who_waits, "children_in_every_mode"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_fault_in_a_statement_is_found_out(mutant, name, script, monkeypatch):
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        compare(name, script, monkeypatch)


@pytest.mark.parametrize(
    ("module", "name", "limit"), [(placement, "ROWS_AT_ONCE", 3), (children, "LARGEST", 1200)]
)
def test_children_that_one_statement_does_not_take_go_in_several(
    sim, monkeypatch, module, name, limit
):
    monkeypatch.setattr(module, name, limit)
    numbers = range(10)
    node = signal(spawning(*[{"shape": {"name": str(n)}} for n in numbers]), subject="camera")
    with Statements() as statements:
        sim.run()
    inserts = [text for text in statements.texts if "json_to_recordset" in text]
    assert 4 <= len(inserts) <= 5
    assert [child.result for child in node.children.order_by("seq")] == [str(n) for n in numbers]


def empty() -> None:
    with connection.cursor() as cursor:
        for model in MODELS:
            cursor.execute(f'DELETE FROM "{model._meta.db_table}"')


def everything() -> dict[str, list[dict[str, Any]]]:
    """Every row, with paths in place of the nodes' ids."""
    labels = paths()
    tables = {}
    for model in MODELS:
        rows = [{k: _plain(v, labels) for k, v in row.items()} for row in model.objects.values()]
        for row in rows:
            if not isinstance(row["id"], str):
                del row["id"]
        tables[model.__name__] = sorted(rows, key=repr)
    for row in tables["Transition"]:
        row.pop("id", None)
    # The order of a node's history is that of the rows.
    order = Transition.objects.order_by("node_id", "id").values_list("node_id", "to_status")
    history: dict[str, list[str]] = {}
    for node_id, status in order:
        history.setdefault(labels[node_id], []).append(status)
    tables["order"] = [history]
    return tables


def paths() -> dict[UUID, str]:
    """What a node is called by its place."""
    nodes = {node.pk: node for node in Node.objects.select_related("workflow")}

    def label(node: Node) -> str:
        if node.parent_id is None:
            return f"{node.workflow.name} for {node.workflow.subject} run {node.workflow.run}"
        return f"{label(nodes[node.parent_id])}/{node.seq}"

    return {pk: label(node) for pk, node in nodes.items()}


def _plain(value: Any, labels: dict[UUID, str]) -> Any:
    if isinstance(value, UUID):
        return labels.get(value, value)
    if isinstance(value, list):
        return [_plain(item, labels) for item in value]
    if isinstance(value, str):
        for pk, label in labels.items():
            value = re.sub(f"{pk}|{pk.hex}", label, value)
    return value

"""A transaction on one database, and nodes in another."""

from __future__ import annotations

import warnings

import pytest
from django.db import connections, transaction

from backbeat_celery import checks, complete_by_token, fail_by_token, signal, signal_many
from backbeat_celery.exceptions import NotInTransaction
from backbeat_celery.inputs.tokens import Ticket, sign
from backbeat_celery.models import Node, Workflow
from tests import workflows

HERE = __file__
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _shop(monkeypatch):
    """A second database, where a project might keep its orders."""
    memory = {**connections.settings["default"], "ENGINE": "django.db.backends.sqlite3"}
    memory |= {"NAME": ":memory:", "OPTIONS": {}}
    monkeypatch.setitem(connections.settings, "shop", memory)
    connections["shop"].connect()
    yield
    connections["shop"].close()
    del connections["shop"]


def _signal(**options):
    return signal(workflows.done.s(), subject="camera", delay=60, **options)


SENDERS = {
    "signal": _signal,
    "key": lambda: _signal(key="once"),
    "signal_many": lambda: signal_many([(workflows.done, {"subject": "camera", "delay": 60})]),
    "workflow": lambda: Workflow.objects.for_subject("camera", "w").signal(workflows.done.s()),
    "add_child": lambda: Node.objects.get(parent=None).add_child(workflows.done.s()),
}


@pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)
def test_a_signal_in_a_transaction_that_it_is_no_part_of_is_warned_of(send):
    _signal()
    with transaction.atomic(using="shop"), pytest.warns(NotInTransaction) as caught:
        send()
    # Python itself may warn of something else meanwhile.
    [warning] = [one for one in caught if one.category is NotInTransaction]
    assert warning.filename == HERE  # the place that is to be changed
    assert "on_commit(..., using='shop')" in str(warning.message)


VERBS = {
    "complete": lambda node: node.complete(5),
    "fail": lambda node: node.fail("no"),
    "token": lambda node: complete_by_token(_token_of(node), 5),
    "failing token": lambda node: fail_by_token(_token_of(node), "no"),
    "cancel": lambda node: node.cancel(),
    "cancel_previous": lambda node: node.cancel_previous(),
    "close": lambda node: node.workflow.close(),
}


def _token_of(node):
    return sign(Ticket(node.alias, node.pk, node.attempt, node.claim_id))


@pytest.mark.parametrize("call", VERBS.values(), ids=VERBS)
def test_a_verb_in_a_transaction_that_it_is_no_part_of_is_warned_of(sim, call):
    node = signal(workflows.awaiting.s(), subject="camera")
    sim.run()
    node.refresh_from_db()
    with transaction.atomic(using="shop"), pytest.warns(NotInTransaction) as caught:
        call(node)
    # Python itself may warn of something else meanwhile.
    [warning] = [one for one in caught if one.category is NotInTransaction]
    assert warning.filename == HERE


def test_it_is_sent_even_so():
    with transaction.atomic(using="shop"):
        with pytest.warns(NotInTransaction):
            node = _signal()
        transaction.set_rollback(True, using="shop")
    assert Node.objects.filter(pk=node.pk).exists()


def test_a_project_may_have_it_refused():
    with warnings.catch_warnings(), transaction.atomic(using="shop"):
        warnings.simplefilter("error", NotInTransaction)
        with pytest.raises(NotInTransaction):
            _signal()
    assert not Node.objects.exists()


def test_on_commit_of_the_other_database_is_the_way():
    sent = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with transaction.atomic(using="shop"):
            transaction.on_commit(lambda: sent.append(_signal()), using="shop")
            assert not sent
    assert Node.objects.filter(pk=sent[0].pk).exists()


def test_where_the_nodes_database_is_in_a_transaction_too_nothing_is_said():
    """As in a TestCase of both, and as in a project that has chosen to begin two."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with transaction.atomic(using="shop"), transaction.atomic():
            _signal()
        _signal()


def test_requests_that_are_atomic_elsewhere_are_warned_of_at_start(monkeypatch):
    assert checks.check_transactions() == []
    monkeypatch.setitem(connections.settings["shop"], "ATOMIC_REQUESTS", True)
    [message] = checks.check_transactions()
    assert message.id == "backbeat_celery.W022"
    assert "using='shop'" in message.hint

"""Bad input: each a clear error of the documented class, and no row."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from celery import chain, chord, group, signature
from django.contrib.auth.models import Group

from backbeat_celery import signal, signal_many
from backbeat_celery.exceptions import (
    BackbeatError,
    BadInput,
    BadMode,
    BadPayload,
    BadSubject,
    BadTime,
    UnknownTask,
    UnsupportedOption,
)
from backbeat_celery.inputs.canvas import task_spec
from backbeat_celery.inputs.node_spec import flag_spec
from backbeat_celery.models import Node, Workflow
from tests.workflows import badly_bundled, bound, done, non_blocking_by_default, plain

NAIVE = datetime(2030, 1, 1, 12)
AWARE = datetime(2030, 1, 1, 12, tzinfo=UTC)

SIGNATURES = [
    (signature("no.such.task"), UnknownTask),  # not registered
    (signature("x" * 300), UnknownTask),  # longer than any name
    ("tests.workflows.done", BadInput),  # a name is no signature
    (None, BadInput),
    (done.run, BadInput),  # the function, not the task
    (type(done), BadInput),  # the class, not the task
    (signature("celery.accumulate"), UnsupportedOption),
    (signature("celery.chain"), BadInput),
    (signature("celery.chord", kwargs={"header": [done.s()]}), BadInput),
    (chain(done.s(), signature("no.such.task")), UnknownTask),
    (group(done.s(), done.s({1})), BadPayload),
    (plain.chunks([(1,)], 0), BadInput),
    (chord([done.s()], done.s().set(no_such_option=1)), UnsupportedOption),
    (done.s().set(link=signature("no.such.task")), UnknownTask),
    (done.s().set(link_error=7), BadInput),
    (done.s().set(expires="soon"), BadTime),
    (done.s().set(expires=datetime(2030, 1, 1)), BadTime),
    (done.s().set(task_id="x" * 256), BadInput),
    (done.s(object()), BadPayload),
    (done.s({1, 2}), BadPayload),  # JSON has no sets
    (done.s(Group(name="g")), BadPayload),  # a model instance: pass its key
    (done.s(x=lambda: 1), BadPayload),
    (done.s({(1, 2): 3}), BadPayload),  # keys are strings
    (done.s(float("nan")), BadPayload),
    (done.s([{"deep": float("inf")}]), BadPayload),
    (done.s("x" * 300_000), BadPayload),  # over MAX_PAYLOAD
    (done.s(*["x" * 1000] * 300), BadPayload),  # over it together
    (plain.s(), BadInput),  # an argument is missing
    (plain.s(1, 2, 3), BadInput),  # one too many
    (plain.s(1, z=1), BadInput),  # one that it does not take
    (bound.s(), BadInput),  # bound: self is not counted
    (done.s().set(serializer=object()), UnsupportedOption),
    (done.s().set(no_such_option=1), UnsupportedOption),
    (done.s().set(queue=object()), UnsupportedOption),  # a queue is named by a string
    (done.s().set(countdown=-1), BadTime),
    (done.s().set(countdown=True), BadTime),
    (done.s().set(eta=NAIVE), BadTime),
    (done.s().set(eta="2030-01-01T00:00:00Z"), BadTime),
    (done.s().set(eta=AWARE, countdown=1), BadTime),
]

OPTIONS = [
    ({"mode": "parallel"}, BadMode),
    ({"mode": "BLOCKING"}, BadMode),
    ({"mode": 1}, BadMode),
    ({"mode": ""}, BadMode),  # empty is not "as usual"
    ({"fires_at": NAIVE}, BadTime),
    ({"fires_at": date(2030, 1, 1)}, BadTime),
    ({"fires_at": "tomorrow"}, BadTime),
    ({"fires_at": 60}, BadTime),
    ({"fires_at": AWARE, "delay": 1}, BadTime),
    ({"fires_at": AWARE, "delay": 0}, BadTime),  # 0 is a delay, too
    ({"delay": -1}, BadTime),
    ({"delay": True}, BadTime),
    ({"delay": "10"}, BadTime),
    ({"delay": timedelta(seconds=-10)}, BadTime),
    ({"delay": Decimal(10)}, BadTime),
    ({"delay": float("nan")}, BadTime),
    ({"delay": float("inf")}, BadTime),
    ({"delay": 10**400}, BadTime),
    ({"delay": 86400 * 365 * 101}, BadTime),
    ({"key": ""}, BadInput),
    ({"key": "k" * 256}, BadInput),
    ({"key": "a\x00b"}, BadInput),
    ({"key": 7}, BadInput),
    ({"key": "\ud800"}, BadInput),  # a lone surrogate: no database stores it
    ({"metadata": [1]}, BadPayload),
    ({"metadata": {"x": object()}}, BadPayload),
    ({"metadata": {"x": float("nan")}}, BadPayload),
    ({"metadata": {"x": "y" * 300_000}}, BadPayload),
    ({"metadata": {"x": "a\x00b"}}, BadPayload),
    ({"metadata": {"x": "\ud800"}}, BadPayload),
    ({"name": "n" * 256}, BadInput),
    ({"name": "a\x00b"}, BadInput),
    ({"name": 7}, BadInput),
    ({"name": "\ud800"}, BadInput),
    ({"name": ""}, BadInput),  # empty is not "the task's"
    ({"subject": ""}, BadSubject),
    ({"subject": "s" * 256}, BadSubject),
    ({"subject": "a\x00b"}, BadSubject),
    ({"subject": "\ud800"}, BadSubject),
    ({"subject": 703}, BadSubject),
    ({"subject": Group(name="unsaved")}, BadSubject),
    ({"link": "not an id"}, BadInput),
    ({"link": 7}, BadInput),
]


def check_clear(caught, kind):
    """The class that the docs name, with a message that says more than the class."""
    assert isinstance(caught.value, kind)
    assert isinstance(caught.value, BackbeatError)
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) > 20
    assert not Node.objects.exists()
    assert not Workflow.objects.exists()


@pytest.mark.parametrize(("bad", "kind"), SIGNATURES)
def test_a_bad_signature_is_refused_and_nothing_is_written(sim, bad, kind):
    with pytest.raises(kind) as caught:
        signal(bad, subject="camera")
    check_clear(caught, kind)


@pytest.mark.parametrize(("options", "kind"), OPTIONS)
def test_a_bad_option_is_refused_and_nothing_is_written(sim, options, kind):
    with pytest.raises(kind) as caught:
        signal(done.s(), **{"subject": "camera", **options})
    check_clear(caught, kind)


@pytest.mark.parametrize(("options", "kind"), OPTIONS)
def test_one_bad_signal_among_many_refuses_all(sim, options, kind):
    good = (done.s(), {"subject": "lens"})
    with pytest.raises(kind) as caught:
        signal_many([good, (done.s(), {"subject": "camera", **options})])
    check_clear(caught, kind)


@pytest.mark.parametrize(
    "options",
    [
        {"subject": "camera", "colour": "red"},  # no such option
        {"subject": "camera", "barrier": True},  # signals take none
        {"subject": "camera", "default_mode": "non_blocking"},  # nor our own internals
    ],
)
def test_signal_many_takes_the_options_of_signal_alone(sim, options):
    with pytest.raises((BadInput, TypeError)):
        signal_many([(done.s(), options)])
    assert not Workflow.objects.exists()


@pytest.mark.parametrize("mode", ["non_blocking", "fire_and_forget"])
def test_a_barrier_with_another_mode_is_refused(mode):
    with pytest.raises(BadMode, match="barrier"):
        task_spec(done, mode=mode, barrier=True)


def test_a_barrier_of_a_task_that_is_not_blocking_by_default_is_blocking_if_told():
    assert task_spec(non_blocking_by_default, mode="blocking", barrier=True).barrier


@pytest.mark.parametrize("name", ["", "f" * 256, "a\x00b", None, 7, "\ud800"])
def test_a_bad_name_of_a_flag_is_refused(name):
    with pytest.raises(BadInput, match="name"):
        flag_spec(name)


@pytest.mark.parametrize(
    ("options", "kind"),
    [({"mode": "x"}, BadMode), ({"delay": -1}, BadTime), ({"key": ""}, BadInput)],
)
def test_a_bad_option_of_a_flag_is_refused(options, kind):
    with pytest.raises(kind):
        flag_spec("payday", **options)


def test_options_of_a_message_are_kept():
    options = {"queue": "slow", "priority": 3, "time_limit": 9, "routing_key": "r"}
    assert task_spec(done.s().set(**options)).options == options


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MessageGroupId", UUID(int=7)),
        ("retry_policy", {"interval_start": Decimal("0.2")}),
        ("shadow", "a\x00b"),
        ("shadow", "\ud83d"),
    ],
)
def test_an_option_that_no_column_keeps_is_refused(name, value):
    """It would fail the transaction of whoever signals, or an attempt after its work is done."""
    with pytest.raises(UnsupportedOption, match=f"options of .*{name}"):
        task_spec(done.s().set(**{name: value}))


def test_an_option_may_have_any_letters():
    options = {"shadow": "caf\u00e9 \U0001f600", "MessageGroupId": str(UUID(int=7))}
    assert task_spec(done.s().set(**options)).options == options


def test_each_unsupported_option_has_a_sentence_in_a_fixed_order():
    with pytest.raises(UnsupportedOption) as caught:
        task_spec(done.s().set(expiration=60, chord=plain.s(1), producer=7, shadov="x"))
    told = str(caught.value)
    names = ("expiration", "producer", "shadov")
    places = [told.index(f"{done.name}: {name} ") for name in names]
    assert places == sorted(places)
    for words in ("cancel() the node", "did you mean shadow"):
        assert words in told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("serializer", "pickle"),  # workers accept JSON alone
        ("serializer", "jason"),
        ("compression", "zap"),
        ("retry_policy", 3),
        ("time_limit", "9"),
        ("priority", "high"),
        ("queue", 5),
        ("queue", "q" * 256),
        ("exchange", ["a"]),
    ],
)
def test_a_message_that_could_not_be_made_is_refused(name, value):
    with pytest.raises(UnsupportedOption, match=f"{name} is .*but must be"):
        task_spec(done.s().set(**{name: value}))


def test_what_only_matters_to_celery_is_left_out():
    assert task_spec(done.s().set(ignore_result=True, expires=None)).options == {}


def test_a_task_is_as_good_as_its_signature():
    assert task_spec(done).args == []
    assert task_spec(done).task == task_spec(done.s()).task == done.name


@pytest.mark.parametrize(
    ("signed", "options"),
    [
        (done.s().set(countdown=9), {}),
        (done.s(), {"delay": 9}),
        (done.s(), {"delay": timedelta(seconds=9)}),
        (done.s().set(countdown=timedelta(seconds=9)), {}),
        (done.s().set(eta=AWARE + timedelta(seconds=9)), {}),
        (done.s(), {"fires_at": AWARE + timedelta(seconds=9)}),
    ],
)
def test_countdown_is_delay_and_eta_is_fires_at(signed, options):
    assert task_spec(signed, **options).due_at(AWARE) == AWARE + timedelta(seconds=9)


def test_a_signature_may_be_used_twice():
    signed = done.s().set(countdown=9)
    assert task_spec(signed).delay == task_spec(signed).delay == 9


def test_the_unknown_task_is_named_and_told_where_to_look():
    with pytest.raises(UnknownTask, match=r"no\.such\.task.*autodiscover_tasks"):
        task_spec(signature("no.such.task"))


@pytest.mark.django_db
def test_a_bundle_that_is_no_number_is_refused_not_ignored():
    with pytest.raises(BadInput, match="bundle"):
        signal(badly_bundled.s(), subject="camera")
    assert not Node.objects.exists()


def test_a_task_of_another_code_base_needs_a_queue():
    with pytest.raises(UnknownTask, match="queue="):
        task_spec(signature("other.task"))
    spec = task_spec(signature("other.task", args=[1], kwargs={"y": 2}, queue="other"))
    assert (spec.task, spec.name, spec.remote) == ("other.task", "other.task", True)
    assert (spec.args, spec.kwargs, spec.options) == ([1], {"y": 2}, {"queue": "other"})
    assert task_spec(signature("other.task").set(queue="other", priority=3)).remote


def test_a_registered_task_is_never_remote():
    assert not task_spec(signature(done.name, queue="other")).remote


@pytest.mark.parametrize(
    "name", ["celery.chain", "celery.backend_cleanup", "", "x" * 256, "a\x00b"]
)
def test_a_queue_makes_no_bad_name_good(name):
    with pytest.raises(BadInput):
        task_spec(signature(name, queue="other"))


def test_a_remote_task_takes_the_options_of_any_other():
    with pytest.raises(UnsupportedOption, match="producer"):
        task_spec(signature("other.task", queue="other", producer=7))
    with pytest.raises(BadPayload):
        task_spec(signature("other.task", args=[object()], queue="other"))


def test_a_task_that_drops_calls_is_refused(monkeypatch):
    """Also before its `apply_async` takes a lock that nobody would give back."""
    task = done._get_current_object()
    module = {"__module__": "celery_singleton.singleton"}
    monkeypatch.setattr(task, "__class__", type("Singleton", (type(task),), module))
    with pytest.raises(UnsupportedOption, match="never dropped"):
        task_spec(done.s())

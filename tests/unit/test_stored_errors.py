"""Exceptions taken apart for a row, and made again: as near as can be, and never anything else."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from celery.exceptions import Reject, SoftTimeLimitExceeded, WorkerLostError
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from backbeat_celery.exceptions import InvalidTransition, NodeFailed
from backbeat_celery.models import Attempt
from backbeat_celery.models.fields import PayloadField
from backbeat_celery.models.stored_errors import exception_of, stored_error


class Declined(Exception):
    """Equal if its arguments are, as the exceptions of many projects."""

    class Again(Exception):
        pass

    def __eq__(self, other):
        return type(other) is type(self) and other.args == self.args

    __hash__ = Exception.__hash__


class Choosy(Exception):
    """Makes its one argument of two."""

    def __init__(self, code, text):
        self.code = code
        super().__init__(f"{code}: {text}")


class Doubling(Exception):
    """Makes its argument of what it is called with."""

    def __init__(self, code):
        super().__init__(f"code {code}")


class Unshown(Exception):
    """Cannot be shown unless it was made by its own constructor."""

    def __init__(self, one, two):
        self.one = one
        super().__init__(one)

    def __str__(self):
        return self.one


class Unreadable(Exception):
    @property
    def args(self):
        raise RuntimeError("no")


def attempt_of(exc):
    """The row of an attempt that has ended with an exception, as the database gives it back."""
    kept = stored_error(exc)
    field = PayloadField()
    args = field.from_db_value(field.get_prep_value(kept["error_args"]), None, None)
    return Attempt(error=repr(exc), error_type=kept["error_type"], error_args=args)


def made_again(exc):
    return exception_of(attempt_of(exc))


@pytest.mark.parametrize(
    "exc",
    [
        ValueError(),
        ValueError("no", 1, None, True, 2.5, {"a": ["b"]}),
        KeyError("name"),
        FileNotFoundError(2, "No such file"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        ValueError(UUID(int=7), Decimal("1.50"), datetime(2030, 1, 2, 3, tzinfo=UTC)),
        ValueError("a\x00b", "half \ud83d"),
        SystemExit(3),
        KeyboardInterrupt(),
        Declined("card", 5),
        Declined.Again("x"),
        Choosy(402, "declined"),
        Doubling(7),
        Reject("not me", True),
        SoftTimeLimitExceeded(),
        WorkerLostError("gone"),
        ValidationError("wrong", "invalid", {"value": 3}),
        InvalidTransition("complete", "retry", UUID(int=1)),
    ],
    ids=repr,
)
def test_an_exception_is_made_again(exc):
    made = made_again(exc)
    assert type(made) is type(exc)
    assert (made.args, repr(made), str(made)) == (exc.args, repr(exc), str(exc))


def test_it_is_equal_where_its_class_says_what_equal_is():
    assert made_again(Declined("card")) == Declined("card")
    assert made_again(Declined("card")) != Declined("cash")


def test_a_text_in_the_readers_language_is_kept_as_it_was_read():
    assert made_again(ValueError(_("node"))).args == ("node",)


def test_what_an_exception_held_does_not_change_afterwards():
    held = ["first"]
    kept = stored_error(ValueError(held))
    held.append("second")
    assert kept["error_args"] == [["first"]]


@pytest.mark.parametrize(
    "exc",
    [
        ValueError(object()),
        ValueError("fine", {1, 2}),
        ValueError(float("nan")),
        ValueError("x" * 16_384),
        ValueError({"__type__": "nothing", "__value__": 1}),
        Unreadable(),
    ],
    ids=["object", "set", "nan", "huge", "kombu's mark", "unreadable"],
)
def test_arguments_that_cannot_be_stored_leave_the_class_and_the_text(exc):
    attempt = attempt_of(exc)
    assert attempt.error_args is None
    attempt.error = "said so"
    made = exception_of(attempt)
    assert (type(made).__name__, str(made)) == (type(exc).__name__, "said so")


def test_a_value_of_too_many_levels_is_no_argument():
    deep = []
    for _level in range(300):
        deep = [deep]
    assert stored_error(ValueError(deep))["error_args"] is None


def test_a_class_inside_a_function_is_made_up():
    class Boom(ValueError):
        pass

    made = made_again(Boom("x", 1))
    assert isinstance(made, Exception)
    assert repr(made) == "Boom('x', 1)"
    assert type(made) is type(made_again(Boom("y")))


def test_an_exception_that_could_not_be_shown_is_made_up():
    made = made_again(Unshown("one", "two"))
    assert (type(made).__name__, str(made)) == ("Unshown", "one")
    assert not isinstance(made, Unshown)


@pytest.mark.parametrize(
    "name",
    ["os.system", "builtins.eval", "builtins.dict", "pathlib.Path", "tests.unit", "antigravity"],
)
def test_nothing_but_an_exception_class_is_ever_called(name, monkeypatch, tmp_path):
    def refuse(*_):
        raise AssertionError("called")

    monkeypatch.setattr(os, "system", refuse)
    monkeypatch.setattr("webbrowser.open", refuse)
    path = tmp_path / "touched"
    made = exception_of(Attempt(error="x", error_type=name, error_args=[f"touch {path}"]))
    assert type(made).__name__ == name.rpartition(".")[2]
    assert type(made).__mro__[1:] == Exception.__mro__
    assert not path.exists()


@pytest.mark.parametrize(
    "name", ["gone.Error", "tests.unit.test_stored_errors.Gone", "a b.C", "…"]
)
def test_a_class_that_is_not_there_is_made_up(name):
    made = exception_of(Attempt(error="x", error_type=name, error_args=["told"]))
    assert repr(made).endswith("('told')")
    assert type(made).__name__ == name.rpartition(".")[2]


def test_the_module_is_imported(monkeypatch, tmp_path):
    (tmp_path / "not_yet_imported.py").write_text("class Late(Exception): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    attempt = Attempt(error="x", error_type="not_yet_imported.Late", error_args=[1])
    made = exception_of(attempt)
    assert type(made) is sys.modules.pop("not_yet_imported").Late


def test_a_module_that_cannot_be_imported_is_no_obstacle(monkeypatch, tmp_path):
    (tmp_path / "broken_here.py").write_text("raise RuntimeError('broken')\n")
    monkeypatch.syspath_prepend(tmp_path)
    made = exception_of(Attempt(error="x", error_type="broken_here.Late", error_args=[1]))
    assert repr(made) == "Late(1)"


def test_a_name_that_is_too_long_keeps_its_end():
    kind = type("Named", (Exception,), {"__module__": "long." * 60 + "module"})
    kept = stored_error(kind("x"))
    assert len(kept["error_type"]) == Attempt._meta.get_field("error_type").max_length
    made = exception_of(Attempt(error="x", error_type=kept["error_type"], error_args=["x"]))
    assert repr(made) == "Named('x')"


def test_a_name_that_no_database_stores_is_left_out():
    kind = type("Named", (Exception,), {"__module__": "a\x00b"})
    assert stored_error(kind("x"))["error_type"] == ""


def test_a_failure_by_text_is_one_of_ours():
    made = exception_of(Attempt(error="declined"))
    assert (type(made), str(made)) == (NodeFailed, "declined")
    assert str(exception_of(Attempt())) == NodeFailed.__doc__

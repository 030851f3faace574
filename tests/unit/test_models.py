"""Columns and constraints: what the database itself holds to."""

from __future__ import annotations

import pytest
from django.core import checks
from django.core.management import call_command
from django.db import IntegrityError, transaction

from backbeat_celery import signal
from backbeat_celery.models import Attempt, Link, Node, SweeperLease, Transition, Workflow
from tests import workflows

PAIRS = [
    ("a", "A"),  # case
    ("a", "a "),  # a blank at the end
    ("a", "\u00e4"),  # an accent
    ("stra\u00dfe", "strasse"),
    ("\u00e4", "a\u0308"),  # the same letter, composed and not
    ("📷", "📸"),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_subjects_compare_byte_for_byte(sim, one, other):
    a, b = (signal(workflows.done.s(), subject=text) for text in (one, other))
    assert a.workflow_id != b.workflow_id
    assert Workflow.objects.get(subject=one).pk == a.workflow_id


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_names_of_workflows_compare_byte_for_byte(sim, one, other):
    a, b = (signal(workflows.done.s(), subject="camera", name=text) for text in (one, other))
    assert a.workflow_id != b.workflow_id
    assert Workflow.objects.get(name=other).pk == b.workflow_id


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_keys_compare_byte_for_byte(sim, one, other):
    a, b = (signal(workflows.done.s(), subject="camera", key=text) for text in (one, other))
    assert a.pk != b.pk
    assert signal(workflows.done.s(), subject="camera", key=one).pk == a.pk


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_names_of_nodes_compare_byte_for_byte(run_tree, one, other):
    node = run_tree({"flag": one}, {"flag": other})
    assert node.children.get(name=one).name == one


@pytest.mark.parametrize("length", [1, 255])
def test_the_longest_subject_fits(sim, length):
    node = signal(workflows.done.s(), subject="ä" * length, name="n" * length, key="k" * length)
    node.refresh_from_db()
    assert (node.workflow.subject, node.key) == ("ä" * length, "k" * length)


def duplicate(row, **changes):
    """Insert a copy of a row with changes."""
    copy = type(row)(**{f.attname: getattr(row, f.attname) for f in row._meta.concrete_fields})
    copy.pk = None if isinstance(row.pk, int) else type(row)().pk
    for name, value in changes.items():
        setattr(copy, name, value)
    with transaction.atomic():
        copy.save(force_insert=True)
    return copy


@pytest.fixture
def node(sim):
    return signal(workflows.done.s(), subject="camera", key="k")


def test_there_is_one_unfinished_run(node):
    with pytest.raises(IntegrityError):
        duplicate(node.workflow, run=2)


def test_there_are_many_finished_runs(node):
    duplicate(node.workflow, run=2, unfinished=None)
    duplicate(node.workflow, run=3, unfinished=None)
    assert Workflow.objects.count() == 3


def test_a_run_has_its_number_alone(node):
    with pytest.raises(IntegrityError):
        duplicate(node.workflow, unfinished=None)


def test_a_place_in_the_line_is_taken_once(node):
    with pytest.raises(IntegrityError):
        duplicate(node, key=None)


def test_a_key_is_used_once_by_a_parent(node):
    with pytest.raises(IntegrityError):
        duplicate(node, seq=1)


def test_no_key_is_no_duplicate(node):
    duplicate(node, seq=1, key=None)
    duplicate(node, seq=2, key=None)


def test_an_attempt_has_its_number_alone(node):
    attempt = Attempt.objects.create(node=node, number=1)
    with pytest.raises(IntegrityError):
        duplicate(attempt)


def test_a_link_is_made_once(node, sim):
    other = signal(workflows.done.s(), subject="lens")
    link = Link.objects.create(source=node, target=other)
    with pytest.raises(IntegrityError):
        duplicate(link)


def test_deleting_a_workflow_takes_all_its_rows_along(sim, run_tree):
    node = run_tree({"shape": {"spawn": [{}]}}, {"flag": "f"})
    signal(workflows.done.s(), subject="lens", name="stays")
    node.workflow.delete()
    sim.run()
    assert Workflow.objects.get().subject == "lens"
    assert Node.objects.filter(workflow_id=node.workflow_id).count() == 0
    assert set(Transition.objects.values_list("node_id", flat=True)) <= set(
        Node.objects.values_list("pk", flat=True)
    )
    assert Attempt.objects.count() == 1


@pytest.mark.parametrize("field", ["django.db.models.AutoField", "django.db.models.BigAutoField"])
def test_migrations_are_complete_whatever_the_projects_default_key(db, settings, field):
    settings.DEFAULT_AUTO_FIELD = field
    call_command("makemigrations", "backbeat_celery", check=True, dry_run=True)


OF_THE_SERVER = "backbeat_celery.W021"
"""Told of a server that sets no limit to idle transactions, as test servers may."""


def test_the_models_pass_djangos_checks(db):
    found = checks.run_checks(databases=["default"])
    assert [m for m in found if not m.is_silenced() and m.id != OF_THE_SERVER] == []


def test_rows_say_what_they_are(node, sim):
    sim.run()
    node.refresh_from_db()
    assert str(node.workflow) == f"{workflows.done.name} for camera, run 1"
    assert str(node) == f"{workflows.done.name} (complete)"
    assert str(node.transitions.first()) == "queued → running"
    assert str(node.attempts[0]) == "attempt 1: succeeded"
    assert str(SweeperLease(name="sweeper")) == "sweeper: free"
    assert str(node.pk) in str(Link(source=node, target=node))


def test_the_root_has_the_id_of_its_workflow_and_calls_nothing(node):
    root = node.workflow.root
    assert (root.pk, root.task, root.status) == (node.workflow_id, "", "waiting")
    assert root.is_root
    assert not root.is_flag


def test_times_come_from_the_engines_clock(sim, node):
    assert node.created_at == sim.now
    assert node.workflow.created_at == sim.now
    assert node.workflow.root.created_at == sim.now

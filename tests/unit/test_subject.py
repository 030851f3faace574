"""What a workflow may be about."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User

from backbeat_celery.exceptions import BadSubject
from backbeat_celery.inputs.subject import subject_key


class Team(Group):
    """The same rows under another name."""

    class Meta:
        proxy = True
        app_label = "auth"


def test_a_model_instance_is_its_label_and_key(db):
    group = Group.objects.create(name="g")
    assert subject_key(group) == f"auth.group:{group.pk}"


def test_a_proxy_is_the_same_subject(db):
    group = Group.objects.create(name="g")
    assert subject_key(Team.objects.get(pk=group.pk)) == subject_key(group)


def test_a_deferred_instance_is_the_same_subject(db):
    group = Group.objects.create(name="g")
    assert subject_key(Group.objects.only("pk").get()) == subject_key(group)


def test_instances_of_two_models_with_one_key_are_two_subjects(db):
    group, user = Group.objects.create(pk=9), User.objects.create(pk=9)
    assert subject_key(group) != subject_key(user)


@pytest.mark.parametrize(
    "unsaved",
    [Group(name="g"), Group(pk=7, name="has a key but no row")],
)
def test_an_unsaved_instance_is_told_to_be_saved(unsaved):
    with pytest.raises(BadSubject, match="save it first"):
        subject_key(unsaved)


def test_a_deleted_instance_is_refused(db):
    group = Group.objects.create(name="g")
    group.delete()
    with pytest.raises(BadSubject):
        subject_key(group)


@pytest.mark.parametrize("text", ["a", "a" * 255, "ä" * 255, " ", "order:7", "📷"])
def test_a_string_stands_for_itself(text):
    assert subject_key(text) == text


@pytest.mark.parametrize(
    "wrong",
    ["", "a" * 256, "a\x00b", b"bytes", 7, 7.0, None, object(), Group, ["a"], "\ud800"],
)
def test_anything_else_is_refused(wrong):
    with pytest.raises(BadSubject):
        subject_key(wrong)

"""A workflow and the object that it is about, in the admin: each names the other."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.urls import reverse

from backbeat_celery import signal
from backbeat_celery.admin.subject import BackbeatSubjectMixin
from tests import workflows


class SubjectAdmin(BackbeatSubjectMixin, UserAdmin):
    """The page of a user, with the user's workflows."""


@pytest.fixture
def viewer(db):
    """A user who may see workflows, and no users."""
    user = User.objects.create_user("viewer", is_staff=True)
    names = ["view_workflow", "view_node"]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    return user


def workflow_url(node):
    return reverse("admin:backbeat_celery_workflow_change", args=[node.workflow_id])


def object_page(rf, user, obj):
    """The page of `obj` as `user` sees it."""
    request = rf.get("/")
    request.user = user
    page = SubjectAdmin(User, admin.site).change_view(request, str(obj.pk))
    return page.render().content.decode()


def test_an_objects_page_shows_its_workflows_and_how_they_stand(sim, rf, admin_user):
    done = signal(workflows.done.s(), subject=admin_user)
    sim.run()
    other = signal(workflows.done.s(), subject="camera")

    html = object_page(rf, admin_user, admin_user)

    assert workflow_url(done) in html
    assert workflow_url(other) not in html
    assert "complete" in html


def test_an_objects_page_shows_no_workflow_to_whoever_may_see_none(sim, rf, admin_user):
    node = signal(workflows.done.s(), subject=admin_user)
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_user"))

    assert workflow_url(node) not in object_page(rf, user, admin_user)


def test_a_workflows_page_links_its_object(sim, admin_client, admin_user):
    node = signal(workflows.done.s(), subject=admin_user)

    html = admin_client.get(workflow_url(node)).content.decode()

    assert f'href="{reverse("admin:auth_user_change", args=[admin_user.pk])}"' in html


def test_a_workflows_page_names_an_object_that_may_not_be_seen(sim, client, viewer):
    group = Group.objects.create(name="clerks")
    node = signal(workflows.done.s(), subject=group)
    client.force_login(viewer)

    html = client.get(workflow_url(node)).content.decode()

    assert node.workflow.subject in html
    assert reverse("admin:auth_group_change", args=[group.pk]) not in html

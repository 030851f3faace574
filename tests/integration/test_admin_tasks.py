"""Which tasks may be run from the admin."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User

from backbeat_celery import signal
from backbeat_celery.models import Node
from tests import workflows

DONE, PLAIN = "tests.workflows.done", "tests.workflows.plain"


@pytest.fixture
def send(sim, client):
    """Post the form of a signal as somebody who may send them."""
    node = signal(workflows.done.s(), subject="camera")
    user = User.objects.create_user("kim", is_staff=True)
    names = ["view_node", "view_workflow", "signal_workflow"]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)
    url = f"/admin/backbeat_celery/workflow/{node.workflow_id}/act/signal/"

    def post(task):
        offered = [name for name, _ in client.get(url).context["form"].fields["task"].choices]
        data = {"post": "yes", "task": task, "args": "[1]", "kwargs": "{}", "mode": "blocking"}
        sent = client.post(url, data).status_code == 302
        assert Node.objects.filter(parent__isnull=False).count() == 1 + sent
        return task in offered, sent

    return post


@pytest.mark.parametrize(
    ("allowed", "done", "plain"),
    [
        (None, True, True),
        ([], False, False),
        ([DONE], True, False),
        ({"tests.workflows.d*"}, True, False),
        (["tests.workflows.*"], True, True),
        (["other.*", "done", "TESTS.*"], False, False),
    ],
)
@pytest.mark.parametrize("task", [DONE, PLAIN])
def test_only_tasks_that_are_named_can_be_signalled(settings, send, allowed, done, plain, task):
    settings.BACKBEAT = {"ADMIN_TASKS": allowed}
    expected = done if task == DONE else plain
    assert send(task) == (expected, expected)


def test_celerys_and_our_own_tasks_are_never_offered(settings, send):
    settings.BACKBEAT = {"ADMIN_TASKS": ["*"]}
    assert send("backbeat.purge") == (False, False)
    assert send("celery.accumulate") == (False, False)


def test_the_permission_says_what_it_allows(db):
    names = dict(Permission.objects.values_list("codename", "name"))
    assert names["signal_workflow"] == "Can run tasks with any arguments by signals to workflows"
    assert names["edit_arguments_node"] == "Can run failed nodes again with any arguments"

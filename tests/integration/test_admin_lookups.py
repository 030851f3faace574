"""An address puts those conditions to a list that our pages write, and no others."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse
from django.utils import timezone

from backbeat_celery import signal
from tests import workflows

SECRET = "hunter-2"
NODES, WORKFLOWS = "node", "workflow"


@pytest.fixture
def viewer(client, sim):
    """Somebody who may look, and a node with something to hide."""
    user = User.objects.create_user("kim", is_staff=True)
    names = ["view_node", "view_workflow"]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)
    node = signal(
        workflows.done.s(password=SECRET), subject="camera", metadata={"password": SECRET}
    )
    sim.run()

    def ask(model, **query):
        return client.get(reverse(f"admin:backbeat_celery_{model}_changelist"), query)

    ask.node = node
    return ask


COLUMNS = ["args", "kwargs", "result", "metadata", "options", "error", "key", "report", "progress"]
CONDITIONS = ["", "__regex", "__contains", "__startswith", "__isnull", "__password__startswith"]
THROUGH = [
    *("parent__kwargs__regex", "children__kwargs__regex", "workflow__metadata__regex"),
    *("workflow__nodes__kwargs__regex", "workflow__subject__startswith", "outgoing_links__id"),
    *("transitions__reason__regex", "ended_attempts__traceback__regex", "claim_id__startswith"),
    *("ended_attempts__error_args__regex", "ended_attempts__error_type__startswith"),
    *("id__exact", "id__in", "id__gt", "task__regex", "name__startswith", "worker__exact"),
]


@pytest.mark.parametrize("lookup", [c + rest for c in COLUMNS for rest in CONDITIONS] + THROUGH)
def test_nodes_are_found_by_no_other_condition(viewer, lookup):
    assert viewer(NODES, **{lookup: "h"}).status_code == 400


@pytest.mark.parametrize(
    "lookup",
    [
        *("metadata__regex", "metadata__password__startswith", "subject__regex", "id__exact"),
        *("nodes__kwargs__regex", "nodes__error__contains", "root__kwargs", "pause_reason__regex"),
    ],
)
def test_workflows_are_found_by_no_other_condition(viewer, lookup):
    assert viewer(WORKFLOWS, **{lookup: "h"}).status_code == 400


@pytest.mark.parametrize("model", [NODES, WORKFLOWS])
def test_every_filter_that_is_offered_works(viewer, model):
    page = viewer(model)
    offered = [
        dict(parse_qsl(urlsplit(choice["query_string"]).query))
        for spec in page.context["cl"].filter_specs
        for choice in spec.choices(page.context["cl"])
    ]
    assert len(offered) > 8
    for query in offered:
        assert viewer(model, **query).status_code == 200, query


def test_the_links_of_our_pages_work(viewer):
    node, now = viewer.node, timezone.now()
    for model, query in (
        (NODES, {"workflow__id__exact": node.workflow_id, "status": "complete"}),
        (NODES, {"parent__id__exact": node.pk}),
        (NODES, {"id__lt": node.pk}),
        (NODES, {"handler": "tests.workflows.done"}),
        (WORKFLOWS, {"id__lt": node.workflow_id}),
        (WORKFLOWS, {"created_at__gte": now - timedelta(days=1), "created_at__lt": now}),
    ):
        assert viewer(model, **query).status_code == 200, query


@pytest.mark.parametrize("model", [NODES, WORKFLOWS])
def test_a_popup_refers_to_ids_only(viewer, model):
    assert viewer(model, _popup=1, _to_field="id").status_code == 200
    for name in ("key", "kwargs", "subject", "no_such"):
        assert viewer(model, _popup=1, _to_field=name).status_code == 400


def test_only_what_has_a_sortable_heading_sorts(viewer):
    columns = viewer(NODES).context["cl"].list_display
    assert "worker" in columns
    for index, column in enumerate(columns):
        rows = viewer(NODES, o=f"-{index}").context["cl"].queryset
        assert {name.strip("-") for name in rows.query.order_by} == {"id"}, column


@pytest.mark.parametrize("redact", [["password"], ["other", "password"]])
def test_a_hidden_value_is_not_found_by_guessing(viewer, settings, redact):
    guess = f"password={SECRET}"
    assert len(viewer(WORKFLOWS, q=guess).context["cl"].result_list) == 1
    settings.BACKBEAT = {"REDACT": redact}
    assert viewer(WORKFLOWS, q=guess).context["cl"].result_list == []
    deep = 'x={"password": "hunter-2"}'
    assert viewer(WORKFLOWS, q=deep).context["cl"].result_list == []

"""Whatever is in the data, the admin's pages show it as text."""

from __future__ import annotations

from html import escape
from html.parser import HTMLParser

import pytest
from django.urls import reverse

from backbeat_celery import current_node, signal
from backbeat_celery.models import Attempt, Link, Node, Transition, WorkerHeartbeat, Workflow
from tests import workflows

PAYLOADS = [
    "<script>alert(1)</script>",
    '"><script>alert(1)</script>',
    "'><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "</textarea><script>alert(1)</script>",
    "</title><svg/onload=alert(1)>",
    "<style>*{display:none}</style>",
    "--><iframe src=javascript:alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "{{ 7|add:7 }}{% csrf_token %}",
    "<scr\\ipt>&lt;script&gt;<form action=//evil>",
]


class Strict(HTMLParser):
    """Collects whatever the pages must not contain."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        is_icon = tag == "img" and (values.get("src") or "").startswith("/static/")
        if tag in {"iframe", "object", "embed", "style", "base", "img"} and not is_icon:
            self.found.append(f"<{tag}>")
        if tag == "script":
            self.scripts += 1
            if not (values.get("src") or "").startswith("/"):
                self.found.append("<script> without a source of ours")
        for name, value in attrs:
            if name.startswith("on") or name == "style":
                self.found.append(f"{name}={value}")
            if name in {"href", "src", "action"} and "script:" in (value or ""):
                self.found.append(f"{name}={value}")
            if name == "action" and (value or "").startswith("//"):
                self.found.append(f"{name}={value}")


@pytest.fixture
def poisoned(sim, script, request):
    """A tree with the payload in every field that is shown."""
    text = request.param
    script_text = text[:60]

    def work(task):
        current_node().spawn(workflows.fatal.s(), key=f"key {script_text}")
        current_node().flag(f"flag {script_text}")

    script(work)
    node = signal(
        workflows.scripted.s(),
        subject=f"subject {text}",
        name=f"name {text}",
        metadata={text: text},
    )
    sim.run()
    Node.objects.filter(parent__isnull=False).update(
        args=["main"], kwargs={text: [text]}, result={text: text}, error=f"Error({text!r})",
        worker=f"worker {text}", metadata={text: text}, progress={"done": 1, "message": text},
        options={"queue": text},
    )  # fmt: skip
    Attempt.objects.update(worker=text, error=text, traceback=f"Traceback {text}")
    Transition.objects.update(actor=text, reason=text)
    Workflow.objects.update(
        metadata={text: text}, paused_at=sim.now, paused_by=text, pause_reason=text,
        closed_at=sim.now, closed_by=text, close_reason=text,
    )  # fmt: skip
    WorkerHeartbeat.objects.create(name=text, pool=text, started_at=sim.now, seen_at=sim.now)
    other = signal(workflows.done.s(), subject=f"other {text}")
    Link.objects.create(source=node, target=other)
    return text, Node.objects.get(name="tests.workflows.fatal")


def pages(node):
    base = "/admin/backbeat_celery"
    workflow = node.workflow_id
    yield "overview", f"{base}/"
    yield "workflows", f"{base}/workflow/"
    yield "nodes", f"{base}/node/?open=all"
    yield "tree", f"{base}/workflow/{workflow}/change/"
    yield "live", f"{base}/workflow/{workflow}/live/"
    yield "log", f"{base}/workflow/{workflow}/history/"
    for other in Node.objects.filter(workflow=workflow, parent__isnull=False):
        yield "node", f"{base}/node/{other.pk}/change/"
    for verb in ("retry", "shutdown", "edit_arguments"):
        yield verb, f"{base}/node/{node.pk}/act/{verb}/"
    for verb in ("cancel", "resume", "delete", "signal"):
        yield verb, f"{base}/workflow/{workflow}/act/{verb}/"


@pytest.mark.parametrize("poisoned", PAYLOADS, indirect=True)
def test_data_is_text_on_every_page(poisoned, admin_client):
    text, node = poisoned
    seen = 0
    for name, url in pages(node):
        response = admin_client.get(url)
        assert response.status_code == 200, name
        html = response.content.decode()
        strict = Strict()
        strict.feed(html)
        assert not strict.found, f"{name}: {strict.found}"
        assert strict.scripts >= 1 or name == "live", name
        seen += html.count(escape(text))
    assert seen > 20


def test_report_of_an_action_is_text(sim, admin_client):
    text = PAYLOADS[0]
    node = signal(workflows.fatal.s(), subject="camera", name=text)
    sim.run()
    url = reverse("admin:backbeat_celery_workflow_act", args=[node.workflow_id, "pause"])
    html = admin_client.post(url, {"post": "yes", "reason": text}, follow=True).content.decode()
    assert text not in html
    assert html.count(escape(text)) >= 3


@pytest.mark.parametrize(
    "search", ["%", "' OR 1=1 --", "a=b", "=", "{}=x", "x\x00", "__pk=1", "é" * 300]
)
@pytest.mark.parametrize("model", ["node", "workflow"])
def test_any_search_is_answered(sim, admin_client, model, search):
    signal(workflows.done.s(), subject="camera")
    response = admin_client.get(f"/admin/backbeat_celery/{model}/", {"q": search})
    assert response.status_code == 200
    # Django's own search form refuses a NUL, says so, and filters nothing.
    assert response.context["cl"].result_count == (1 if "\x00" in search else 0)


@pytest.mark.parametrize(
    "query",
    [
        "state=x", "failures=x", "stuck=x", "status=x", "open=x", "handler=x", "p=99999999", "o=9",
        "id__lt=x", "workflow__id__exact=x", "created_at__gte=x", "workflow__subject__regex=(",
        "kwargs__contains=x", "e=1", "all=", "q=%00",
    ],
)  # fmt: skip
@pytest.mark.parametrize("model", ["node", "workflow"])
def test_no_address_is_an_error_of_the_server(sim, admin_client, model, query):
    signal(workflows.done.s(), subject="camera")
    response = admin_client.get(f"/admin/backbeat_celery/{model}/?{query}")
    assert response.status_code in {200, 302, 400}


@pytest.mark.parametrize(
    "query",
    ["open=x", "fold=x&top=x", "from=x:y", "from=00000000-0000-0000-0000-000000000000:-1",
     "top=00000000-0000-0000-0000-000000000000", "gaps=full", "open=" + "&open=".join("x" * 500)],
)  # fmt: skip
def test_no_state_of_a_tree_is_an_error(sim, admin_client, query):
    node = signal(workflows.done.s(), subject="camera")
    for page in ("change", "live"):
        url = f"/admin/backbeat_celery/workflow/{node.workflow_id}/{page}/?{query}"
        assert admin_client.get(url).status_code == 200


@pytest.mark.parametrize("pk", ["x", "1", "00000000-0000-0000-0000-000000000000"])
@pytest.mark.parametrize("model", ["node", "workflow"])
def test_what_is_not_there_is_told(sim, admin_client, model, pk):
    response = admin_client.get(f"/admin/backbeat_celery/{model}/{pk}/change/", follow=True)
    assert "doesn’t exist" in response.content.decode()

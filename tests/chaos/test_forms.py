"""Arbitrary values through every form and address: no error page, no broken row, no secret told.

`BACKBEAT_CHAOS_FUZZ` says how many requests; docs/chaos.md has the figures of the long run.
"""

from __future__ import annotations

import json
import logging
import os
import random
from collections import Counter
from contextlib import suppress
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from django.db import transaction
from django.urls import include, path, reverse

from backbeat_celery import current_node, node_task, signal
from backbeat_celery.admin.actions import NODE_ACTIONS, WORKFLOW_ACTIONS
from backbeat_celery.models import Node, Workflow
from backbeat_celery.verbs.arguments import digest
from tests.chaos.values import value
from tests.stateful.invariants import broken_now
from tests.urls import urlpatterns as admin_urls

urlpatterns = [*admin_urls, path("backbeat/", include("backbeat_celery.urls"))]
pytestmark = [
    pytest.mark.django_db,
    pytest.mark.urls(__name__),
    pytest.mark.timeout(7200),
    # Operations that fail now and then give error pages by right.
    pytest.mark.exact,
]
COUNT = int(os.environ.get("BACKBEAT_CHAOS_FUZZ", "400"))
SEED = int(os.environ.get("BACKBEAT_CHAOS_SEED", "0"))
BATCH = 100
CANARY = "CANARY-5b2e9a"
"""A password; whatever is asked for, it is in no log and no answer."""
PARAMETERS = {
    "workflow": ["state", "failures", "stuck", "name", "q", "p", "o", "all", "id__lt"],
    "node": ["status", "open", "handler", "q", "p", "o", "all", "id__lt"],
}
LOOKUPS = [
    *("created_at__gte", "workflow__subject", "args__contains", "password", "_popup", "_to_field"),
    *("e", "_facets", "kwargs__password", "metadata__x", "workflow__root__error", "pk__in"),
]
TREE = ["open", "fold", "from", "top", "gaps"]
USUAL = [
    *("open", "paused", "failed", "1h", "all", "lost", "0", "-1", "1", "full", "a=b", "cam"),
    *("camera", "order", "x=1", "x={}", "password=" + CANARY[:3], "running", "99999999999999999"),
]
FORM = ["reason", "task", "args", "kwargs", "mode", "key", "delay", "seen"]
TYPES = [
    *("application/json", "application/x-www-form-urlencoded", "text/plain", "", "a/b; charset=x"),
    "multipart/form-data; boundary=x",
]


@node_task(name="chaos.form", max_retries=1, retry_backoff=False, default_retry_delay=1)
def form(*args: Any, **kwargs: Any) -> Any:
    """Fail, so that there is something to edit."""
    raise RuntimeError(f"not with {kwargs!r}")


@node_task(name="chaos.form_awaited", awaits_completion=True, timeout=3600)
def awaited(*args: Any, **kwargs: Any) -> None:
    """Give its token to whoever fuzzes."""
    _tokens.append(current_node().completion_token())


@node_task(name="chaos.form_done")
def done(*args: Any, **kwargs: Any) -> Any:
    """Give back what came."""
    return [args, kwargs]


_tokens: list[str] = []


class FormFuzzer:
    """Draws requests, makes them, and remembers how they were answered."""

    def __init__(self, sim: Any, client: Any, rng: random.Random) -> None:
        self.sim = sim
        self.client = client
        self.rng = rng
        self.said = ""
        """What the last request said, which its answer may quote: a form shows what was typed."""
        self.ends: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()

    # What is handed in ---------------------------------------------------------------------

    def text(self) -> str:
        """A text as it may stand in a form or an address."""
        found = value(self.rng)
        with suppress(Exception):  # what has no text is not sent by anybody
            return str(found)
        return "nothing"

    def word(self) -> str:
        return self.rng.choice([self.rng.choice(USUAL), self.some_id(), self.text()])

    def some_id(self) -> str:
        nodes = list(Node.objects.values_list("pk", flat=True)[:40])
        return str(self.rng.choice([*nodes, UUID(int=self.rng.getrandbits(128))]))

    def payload(self, kind: type) -> str:
        """JSON of the kind that is asked for, or of another, or none."""
        found = value(self.rng)
        wrapped = {"password": CANARY, "x": found} if kind is dict else [found]
        with suppress(Exception):
            return json.dumps(self.rng.choice([wrapped, wrapped, found]))
        return self.text()

    def query(self, names: list[str]) -> str:
        count = self.rng.choice([0, 1, 1, 2, 3])
        names = [self.rng.choice([*names, *names, self.text()]) for _ in range(count)]
        return "&".join(f"{_quoted(name)}={_quoted(self.word())}" for name in names)

    # Doors -----------------------------------------------------------------------------------

    def lists(self) -> Any:
        model = self.rng.choice(list(PARAMETERS))
        query = self.query([*PARAMETERS[model], self.rng.choice(LOOKUPS)])
        return self.client.get(f"/admin/backbeat_celery/{model}/?{query}")

    def pages(self) -> Any:
        model = self.rng.choice(list(PARAMETERS))
        page = self.rng.choice(["change", "change", "history", "live", "delete", self.text()])
        pk = self.rng.choice([self.some_id(), self.some_id(), self.text()])
        url = f"/admin/backbeat_celery/{model}/{_quoted(pk)}/{_quoted(page)}/"
        etag = {"HTTP_IF_NONE_MATCH": _header(self.text())} if self.rng.random() < 0.2 else {}
        return self.client.get(f"{url}?{self.query(TREE)}", **etag)

    def actions(self) -> Any:
        """The form of an action on one object."""
        model, rows, verbs = self.rng.choice(
            [
                ("node", Node.objects.filter(parent__isnull=False), NODE_ACTIONS),
                ("workflow", Workflow.objects.all(), WORKFLOW_ACTIONS),
            ]
        )
        verb = self.rng.choice([*verbs, *verbs, "signal", "edit_arguments"])
        if verb == "delete" and self.rng.random() < 0.8:
            verb = "signal"
        if verb == "edit_arguments":
            rows = Node.objects.filter(status="failed", parent__isnull=False)
            model = "node"
        row = self.pick(rows)
        if row is None:
            return None
        url = f"/admin/backbeat_celery/{model}/{row.pk}/act/{verb}/"
        return self.post(url, {"post": "yes", **self.fields(row)})

    def fields(self, row: Any) -> dict[str, str]:
        """A form that is mostly filled in as it ought to be."""
        rng = self.rng
        good = {
            "reason": "seen by Kim",
            "task": rng.choice(["chaos.form", "chaos.form_done", "chaos.form_awaited"]),
            "args": "[]",
            "kwargs": json.dumps({"password": CANARY}),
            "mode": rng.choice(["blocking", "non_blocking", "fire_and_forget"]),
            "delay": rng.choice(["", "", "0.5", "100"]),
            "seen": digest(row) if isinstance(row, Node) else "",
        }
        for name in rng.sample(FORM, rng.choice([0, 1, 1, 2])):
            kinds = {"args": list, "kwargs": dict}
            good[name] = self.payload(kinds[name]) if name in kinds else self.text()
        return good

    def bulk(self) -> Any:
        """An action on a selection, or on all that match a filter."""
        model = self.rng.choice(list(PARAMETERS))
        verbs = [*(NODE_ACTIONS if model == "node" else WORKFLOW_ACTIONS)]
        verbs = [verb for verb in verbs if verb != "delete"]
        fields = {
            "action": self.rng.choice([*verbs, self.text()]),
            "_selected_action": self.word(),
            "select_across": self.rng.choice(["0", "0", "0", "1", self.text()]),
            "index": self.rng.choice(["0", self.text()]),
            **self.fields(None),
        }
        if self.rng.random() < 0.5:
            fields["post"] = "yes"
        query = self.query(PARAMETERS[model])
        return self.post(f"/admin/backbeat_celery/{model}/?{query}", fields)

    def report(self) -> Any:
        """A call of somebody outside to a completion URL."""
        rng = self.rng
        token = rng.choice([*_tokens[-5:], self.text()])
        if rng.random() < 0.3 and token:
            cut = rng.randrange(len(token))
            token = token[:cut] + rng.choice([self.text()[:9], "A", ""]) + token[cut + 1 :]
        url = f"/backbeat/complete/{_quoted(token)}/"
        if rng.random() < 0.1:
            return self.client.get(url)
        found = value(rng)
        said = {rng.choice(["result", "error", self.text()]): found}
        body: Any = rng.randbytes(30)
        with suppress(Exception):
            body = json.dumps(rng.choice([said, said, found, {**said, "result": 1}]))
        return self.client.generic("POST", url, body, content_type=rng.choice(TYPES))

    def post(self, url: str, fields: dict[str, str]) -> Any:
        self.said = "\n".join(fields.values())
        body = "&".join(f"{_quoted(name)}={_quoted(text)}" for name, text in fields.items())
        return self.client.generic(
            "POST", url, body, content_type="application/x-www-form-urlencoded"
        )

    def pick(self, rows: Any) -> Any:
        count = rows.count()
        return rows.order_by("pk")[self.rng.randrange(count)] if count else None

    # One after another -----------------------------------------------------------------------

    def prepare(self) -> None:
        """Nodes that have failed, are awaited, wait, and are done."""
        for number in range(3):
            for task in (form, awaited, done):
                call = task.s(number, password=CANARY)
                signal(call, subject=f"camera {number} {task.name}", metadata={"x": number})
        self.sim.advance(seconds=5)

    def step(self) -> None:
        door = self.rng.choice(
            [
                *[self.lists] * 3,
                *[self.pages] * 2,
                *[self.actions] * 4,
                *[self.bulk] * 2,
                *[self.report] * 3,
            ]
        )
        self.said = ""
        with transaction.atomic():
            response = door()
        if response is None:
            return
        self.sent[door.__name__] += 1
        self.ends[f"{door.__name__} {response.status_code}"] += 1
        assert response.status_code < 500, response.content[:500]
        assert CANARY in self.said or CANARY.encode() not in response.content
        if self.rng.random() < 0.1:
            self.sim.advance(seconds=self.rng.choice([0, 1, 40]))


def _quoted(text: str) -> str:
    """As a browser, or somebody who is not one, would write it into an address."""
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def _header(text: str) -> str:
    return (
        "".join(sign for sign in text if sign.isprintable())
        .encode("latin-1", "ignore")
        .decode("latin-1")
    )


@pytest.mark.parametrize("batch", range(max(1, COUNT // BATCH)))
def test_arbitrary_forms_are_answered(
    sim: Any, admin_client: Any, batch: int, settings: Any, caplog: Any
):
    settings.BACKBEAT = {"MAX_PAYLOAD": 4096, "REDACT": ("password",)}
    assert reverse("backbeat_celery:complete", args=["x"])
    _tokens.clear()
    caplog.set_level(logging.DEBUG)
    fuzzer = FormFuzzer(sim, admin_client, random.Random(f"forms {SEED} {batch}"))
    fuzzer.prepare()
    for number in range(BATCH):
        try:
            fuzzer.step()
        except Exception as exc:
            exc.add_note(f"This was request {number} of batch {batch}, seed {SEED}.")
            raise
    assert broken_now() == []
    for secret in (CANARY, *_tokens):
        assert secret not in caplog.text
    print(batch, dict(fuzzer.sent), dict(fuzzer.ends))
    assert fuzzer.sent.total() > BATCH / 2

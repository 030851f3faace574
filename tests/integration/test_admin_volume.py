"""Pages cost the same however many workflows there are, and PostgreSQL answers from indexes."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backbeat_celery import current_node, signal
from backbeat_celery.models import Attempt, Node, Transition
from tests import volume, workflows
from tests.counting import fetched

WORKFLOWS = 10_000


@pytest.fixture
def shop(sim, script):
    """Sell cameras: a workflow each, with a failed node in one of them."""

    def sell(count, offset=0):
        def work(task):
            current_node().spawn(workflows.done.s())

        script(work)
        for number in range(offset, offset + count):
            signal(workflows.scripted.s(), subject=f"camera {number}", name=f"w{number % 3}")
            signal(workflows.fatal.s(), subject=f"camera {number}", name=f"w{number % 3}")
        sim.run()

    return sell


@pytest.mark.parametrize("page", ["workflow/", "node/", "workflow/?failures=failed", ""])
def test_lists_take_as_many_statements_for_many_rows_as_for_few(shop, admin_client, page):
    url = f"/admin/backbeat_celery/{page}"
    admin_client.get(url)

    def statements():
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(url).status_code == 200
        return len(queries)

    shop(3)
    few = statements()
    shop(10, offset=3)
    assert statements() == few


def test_no_page_counts_the_whole_table(shop, admin_client):
    shop(2)
    for page in ("workflow/", "node/", "node/?status=failed"):
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(f"/admin/backbeat_celery/{page}")
        counts = [q["sql"] for q in queries if "COUNT(" in q["sql"] and "GROUP BY" not in q["sql"]]
        assert counts
        assert all("LIMIT 10001" in sql for sql in counts), counts


def test_list_that_is_cut_says_so_and_goes_on(shop, admin_client, monkeypatch):
    shop(7)
    monkeypatch.setattr("backbeat_celery.admin.paging.CAP", 4)
    monkeypatch.setattr("backbeat_celery.admin.workflows.WorkflowAdmin.list_per_page", 4)
    response = admin_client.get("/admin/backbeat_celery/workflow/")
    assert "These are the newest 4; there are more." in response.content.decode()
    shown = [row.subject for row in response.context["cl"].result_list]
    older = response.context["cl"].older_url
    rest = admin_client.get(f"/admin/backbeat_celery/workflow/{older}").context["cl"].result_list
    assert shown + [row.subject for row in rest] == [f"camera {n}" for n in range(6, -1, -1)]


@pytest.mark.slow
def test_ten_thousand_children_open_as_ten_do(sim, script, admin_client):
    def costs(width):
        def work(task):
            spawned = [workflows.done.s(n) for n in range(width)]
            current_node().spawn_many(spawned, mode="non_blocking")

        script(work)
        node = signal(workflows.scripted.s(), subject=f"camera {width}")
        while node.status != "waiting":
            assert sim.step()
            node.refresh_from_db()
        url = f"/admin/backbeat_celery/workflow/{node.workflow_id}/change/"
        with CaptureQueriesContext(connection) as queries:
            html = admin_client.get(url).content.decode()
        return len(queries), html.count("<tr")

    few, many = costs(60), costs(10_000)
    assert few == many
    assert many[1] < 70


def test_the_overview_counts_the_newest_attempts_only(shop, admin_client, monkeypatch, sim):
    shop(4)
    html = admin_client.get("/admin/backbeat_celery/").content.decode()
    assert "Only the newest" not in html
    monkeypatch.setattr("backbeat_celery.admin.recent.CAP", 5)
    newest = Attempt.objects.order_by("-pk").first()
    assert newest.pk > 5
    with CaptureQueriesContext(connection) as queries:
        response = admin_client.get("/admin/backbeat_celery/")
    view = response.context["view"]
    assert [chart.good + chart.bad for _kind, chart in view["charts"]] == [5, 5]
    assert sum(row["count"] for row in view["failing"]) <= 5
    assert "Only the newest" in response.content.decode()
    groups = [q["sql"] for q in queries if "backbeat_celery_attempt" in q["sql"]]
    assert len(groups) == 5
    assert all(f" > {newest.pk - 5}" in sql for sql in groups if "GROUP BY" in sql), groups


@pytest.mark.parametrize("status", ["complete", "running"])
def test_a_node_with_many_attempts_opens_as_one_with_few(shop, admin_client, monkeypatch, status):
    shop(1)
    node = Node.objects.filter(name="tests.workflows.fatal").get()
    address = f"/admin/backbeat_celery/node/{node.pk}/change/"
    monkeypatch.setattr("backbeat_celery.admin.nodepage.MOST", 5)

    def retried(count):
        node.ended_attempts.all().delete()
        node.transitions.all().delete()
        times = {"node": node, "worker": "w1", "finished_at": node.created_at}
        Attempt.objects.bulk_create(
            Attempt(number=n, outcome="failed", **times) for n in range(1, count + 1)
        )
        steps = {"node": node, "from_status": "retrying", "to_status": "retrying"}
        Transition.objects.bulk_create(
            Transition(attempt=n, at=node.created_at, **steps) for n in range(1, count + 1)
        )
        Node.objects.filter(pk=node.pk).update(status=status, attempt=count + 1)
        with fetched() as rows:
            found = admin_client.get(address).context
        numbers = [line.attempt.number for line in found["attempts"]]
        newest = [count + 1] if status == "running" else []
        assert numbers == [*newest, *range(count, 0, -1)][:5]
        assert [step.attempt for step, _ in found["history"]] == [*newest, *range(count, -1, -1)][
            :5
        ]
        return rows.rows

    retried(3)
    few, many = retried(10), retried(60)
    assert many == few


needs_postgres = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="plans of PostgreSQL; BACKBEAT_TEST_DB=postgres"
)


@pytest.fixture
def full(db):
    # What other tests have left in the files would count in the planner's estimates.
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(volume.TABLES)} CASCADE")
    volume.fill(connection, WORKFLOWS)


@needs_postgres
def test_pages_are_answered_from_indexes(full, admin_client):
    """How soon is for `python -m tests.volume` to say, on a machine that does nothing else."""
    scans = {}
    for name, address in volume.addresses():
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(address)
        for sql in (query["sql"] for query in queries):
            if "backbeat_celery_node" in sql and sql.startswith("SELECT"):
                plan = "\n".join(explain(sql))
                if "Seq Scan on backbeat_celery_node" in plan and not stops_early(sql, plan):
                    scans[name] = f"{sql}\n{plan}"
    assert not scans


def stops_early(sql, plan):
    """Whether the scan ends at once because nearly every row counts: all but the roots."""
    return "LIMIT 10001" in sql and plan.endswith("Filter: (parent_id IS NOT NULL)")


def explain(sql):
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN " + sql.replace("%", "%%"))
        return [line for (line,) in cursor.fetchall()]


@needs_postgres
def test_volume_is_what_it_says(full):
    assert Node.objects.count() == 10 * WORKFLOWS

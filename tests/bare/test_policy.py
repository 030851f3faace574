"""A task's own policy decides in every process, whether that has imported the task or not."""

from __future__ import annotations

import json

import pytest

from tests.waiting import until

FAIL = """
import json
from backbeat_celery.models import Node
node, other, again = Node.objects.filter(pk__in={}).order_by("pk")
node.fail("no")
again.fail(type("Declined", (Exception,), {{"__module__": "till.tasks"}})()) if {} else again.fail(
    __import__("till.tasks").tasks.Declined()
)
print(json.dumps([node.explain(), again.status, other.status]))
"""


def standing(house, node):
    """A node's status, and the tasks of its rescues with what is kept of their policies."""
    node = node.replace("-", "")
    [status] = house.rows("SELECT status FROM backbeat_celery_node WHERE id = ?", node)
    sql = "SELECT task, options FROM backbeat_celery_node WHERE parent_id = ? AND rescue"
    rescues = [(task, json.loads(options)) for task, options in house.rows(sql, node)]
    return status[0], rescues


RESCUED = (
    "failed",
    [("till.tasks.sorry", {"policy": {"max_retries": 1, "base_delay": 7.0, "jitter": None}})],
)


@pytest.mark.parametrize("image", ["", "tasks"], ids=["not imported", "not in the image"])
def test_every_process_decides_as_the_task_says(house, image):
    nodes, tokens = house.made["asked"], house.made["tokens"]
    bare = house.without(image)
    with bare.web() as browser:
        assert "Recorded" in browser.report(f"/backbeat/complete/{tokens[0]}/", error="no")
        browser.login("root")
        page = browser.get(f"/admin/backbeat_celery/node/{nodes[0]}/change/")
        assert "1 failed, limit 0" in page
        waiting = browser.get(f"/admin/backbeat_celery/node/{nodes[4]}/change/")
        assert "0 failed, limit 9" in waiting
    told = bare.python(FAIL.format([nodes[1], nodes[3], nodes[4]], bool(image)))
    assert "retries exhausted" in told[0]
    assert told[1:] == ["failed", "running"], "an error that is fatal to the task, and no error"
    overdue = "UPDATE backbeat_celery_node SET times_out_at = '2001-01-01' WHERE id = ?"
    house.rows(overdue, nodes[2].replace("-", ""))
    if image:
        worker = ("celery", "-A", "house", "worker", "-P", "solo", "-l", "WARNING")
        with bare.process(*worker):
            until(lambda: standing(house, nodes[2])[0] != "running", 60, bare.said)
    else:
        bare.manage("backbeat_sweep")
    assert [standing(house, node) for node in nodes[:3]] == [RESCUED] * 3

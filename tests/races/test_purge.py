"""Purges beside those who still use what is purged."""

from __future__ import annotations

from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models import F

from backbeat_celery import signal
from backbeat_celery.engine.order.finish import lock_node
from backbeat_celery.models import Link, Node, Workflow
from backbeat_celery.retention.purge import purge
from tests import workflows
from tests.races.threads import DEADLINE, RACES, held_open, start, together
from tests.races.worker import family, run, status, succeed, taken

pytestmark = RACES
LONG_AGO = timedelta(days=100)


def age():
    """Let everything that is finished be so since long ago."""
    for field in ("finished_at", "created_at", "started_at"):
        Node.objects.filter(finished_at__isnull=False).update(**{field: F(field) - LONG_AGO})
    Workflow.objects.update(finished_at=F("finished_at") - LONG_AGO)


def old_signal(subject="camera"):
    """A signal that a purge would take."""
    node = signal(workflows.done.s(), subject=subject)
    run(node)
    age()
    return node


def test_a_signal_that_is_being_linked_to_is_left_alone(stops):
    target = old_signal()
    source, _ = family({}, subject="lens")

    def link():
        """As `signal(link=...)` does: the root is held while the link is made."""
        lock_node(target.parent_id, "default")
        Link.objects.create(source=source, target=target)

    with held_open(link):
        assert purge().nodes == 0
    assert purge().nodes == 0
    assert Link.objects.count() == 1


def test_a_link_made_after_the_purge_has_locked_its_target_fails(stops):
    target = old_signal()
    source, _ = family({}, subject="lens")
    purging = stops.stop("purge", "purging")
    counts = start(purge, "purge")
    purging.wait()

    def link():
        try:
            with transaction.atomic():
                Link.objects.create(source=source, target=target)
        except IntegrityError:
            return "refused"
        return "made"

    linking = start(link, "link")
    purging.release()
    assert counts.result(DEADLINE).nodes == 1
    assert linking.result(DEADLINE) == "refused"
    assert not Link.objects.exists()


def test_a_verb_that_holds_a_workflow_keeps_it(stops):
    node = old_signal()
    node.workflow.close()
    age()
    with held_open(lambda: Workflow.objects.select_for_update().get(pk=node.workflow_id)):
        assert purge().workflows == 0
    assert purge().workflows == 1


def test_two_purges_at_once_delete_each_row_once(stops):
    nodes = [old_signal(f"camera {number}") for number in range(20)]
    counts = together(lambda: purge(batch=3), lambda: purge(batch=3))
    assert sum(one.nodes for one in counts) + purge().nodes == len(nodes)
    assert sum(one.transitions for one in counts) >= len(nodes)


def test_a_line_goes_on_while_what_is_before_it_is_purged(stops):
    old_signal()
    running = signal(workflows.done.s(), subject="camera")
    behind = signal(workflows.done.s(), subject="camera")
    mine = taken(running)
    together(purge, lambda: succeed(mine))
    purge()  # the first one may have found the line held
    assert (status(running), status(behind)) == ("complete", "queued")
    assert Node.objects.filter(parent__isnull=False).count() == 2

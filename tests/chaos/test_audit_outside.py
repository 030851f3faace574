"""Planted violations of what comes from outside: reports, and the closing of workflows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.chaos.audit import audit
from tests.chaos.evidence import Evidence
from tests.chaos.scene import Plants, Scene, found_in

pytestmark = pytest.mark.django_db
plant = Plants()


@plant("broken")
def a_node_succeeded_that_nobody_reported(scene: Scene) -> None:
    del scene.evidence.reports[scene.at("reported")]


@plant("broken")
def a_refused_report_counted(scene: Scene) -> None:
    scene.evidence.reports[scene.at("reported")][0].was_taken = False


@plant("doubled")
def two_reports_of_an_attempt_were_taken(scene: Scene) -> None:
    (report,) = scene.evidence.reports[scene.at("reported")]
    report.was_taken = True
    scene.evidence.reports[scene.at("reported")] = [report, report]


@plant("lost")
def a_report_that_was_taken_did_not_count(scene: Scene) -> None:
    node, attempt = scene.at("reported")
    scene.rows.attempts[scene.node("reported").id][attempt - 2].outcome = "timed_out"


@plant("lost")
def a_report_that_was_taken_went_with_its_worker(scene: Scene) -> None:
    node, attempt = scene.at("reported")
    scene.rows.attempts[scene.node("reported").id][attempt - 2].outcome = "lost"


@plant("broken")
def a_node_failed_that_was_said_to_be_done(scene: Scene) -> None:
    node, attempt = scene.at("reported")
    scene.evidence.reports[node, attempt - 1][0].was_taken = False


@plant("doubled")
def what_waits_started_before_the_report(scene: Scene) -> None:
    lines = scene.evidence.starts[scene.at("after")]
    (report,) = scene.evidence.reports[scene.at("reported")]
    lines[0] = lines[0]._replace(at=report.begun - 0.0001)


@plant("broken")
def a_closed_workflow_took_a_signal(scene: Scene) -> None:
    workflow = scene.rows.workflows[scene.node("root").workflow_id]
    workflow.closed_at = scene.node("root").created_at - timedelta(seconds=1)


@plant("lost")
def a_close_was_forgotten(scene: Scene) -> None:
    workflow = scene.rows.workflows[scene.node("root").workflow_id]
    workflow.closed_at = None


@plant("stuck")
def a_closed_workflow_does_not_end(scene: Scene) -> None:
    workflow = scene.rows.workflows[scene.node("root").workflow_id]
    scene.rows.nodes[workflow.id].status = "waiting"


@pytest.mark.parametrize(("put", "kind"), plant.all)
def test_a_planted_violation_is_found(good: Evidence, put: Callable[[Scene], None], kind: str):
    assert kind in found_in(good, put)


@pytest.mark.parametrize(("was_recorded", "is_lost"), [(True, True), (False, False)])
def test_what_a_killed_handler_would_have_spawned_is_not_lost(
    good: Evidence, was_recorded: bool, is_lost: bool
):
    """Its report counts, and its children were never recorded."""

    def put(scene: Scene) -> None:
        scene.evidence.labels = {*scene.evidence.labels, "reported.0"}
        if not was_recorded:
            scene.rows.history[scene.node("reported").id][
                -1
            ].reason = "reported before the attempt was lost"

    assert ("lost" in found_in(good, put)) is is_lost


@pytest.mark.parametrize(("was_recorded", "is_broken"), [(True, True), (False, False)])
def test_a_killed_handler_whose_report_counts_need_not_have_failed(
    good: Evidence, was_recorded: bool, is_broken: bool
):
    def put(scene: Scene) -> None:
        node = scene.node("reported")
        node.args = [{**(node.args[0] if node.args else {}), "fails": 9}]
        if not was_recorded:
            reason = "reported before the attempt was lost"
            scene.rows.history[node.id][-1].reason = reason

    assert ("broken" in found_in(good, put)) is is_broken


@pytest.mark.parametrize(("was_recorded", "is_broken"), [(True, True), (False, False)])
def test_a_handler_that_was_given_up_after_its_report_need_not_have_begun(
    good: Evidence, was_recorded: bool, is_broken: bool
):
    scene = Scene(good)
    del scene.evidence.starts[scene.at("reported")]
    if not was_recorded:
        reason = "reported before the attempt was timed out"
        scene.rows.history[scene.node("reported").id][-1].reason = reason
    complaints = [violation.text for violation in audit(scene.evidence)]
    assert any("was accepted, not run" in text for text in complaints) is is_broken

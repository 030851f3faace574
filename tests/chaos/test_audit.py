"""The auditor is itself tested: each kind of violation is planted, and must be found."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta

import pytest

from tests.chaos.audit import audit
from tests.chaos.evidence import Evidence
from tests.chaos.scene import Plants, Scene, found_in
from tests.chaos.watch import Line, plain

pytestmark = pytest.mark.django_db
plant = Plants()


@plant("broken")
def a_handler_ran_in_another_context(scene: Scene) -> None:
    lines = scene.evidence.starts[scene.at("first")]
    lines[0] = lines[0]._replace(context="somebody else's")


@plant("broken")
def a_handler_ran_in_no_context(scene: Scene) -> None:
    lines = scene.evidence.starts[scene.at("first.low")]
    lines[0] = lines[0]._replace(context=None)


@plant("broken")
def what_surrounds_a_publisher_came_to_a_handler(scene: Scene) -> None:
    lines = scene.evidence.starts[scene.at("effect")]
    lines[0] = lines[0]._replace(ambient="t7")


@plant("broken")
def a_worker_without_the_package_ran_a_handler(scene: Scene) -> None:
    scene.evidence.foreign.append(Line("foreign", "", 0, 1, 0.0))


@plant("lost")
def a_node_is_gone(scene: Scene) -> None:
    scene.forget("first.low")


@plant("lost")
def a_signal_was_never_recorded(scene: Scene) -> None:
    scene.evidence.labels = {*scene.evidence.labels, "nowhere"}


@plant("doubled")
def a_node_is_there_twice(scene: Scene) -> None:
    scene.double("parallel")


@plant("broken")
def a_failed_attempt_left_a_child(scene: Scene) -> None:
    scene.double("flag").metadata = {"label": "ghost"}


@plant("stuck")
def a_node_waits_for_nothing(scene: Scene) -> None:
    scene.node("first").status = "waiting"


@plant("stuck")
def a_node_runs_for_ever(scene: Scene) -> None:
    scene.node("after").status = "running"


@plant("stuck")
def a_message_was_lost_and_nobody_saw(scene: Scene) -> None:
    scene.node("first.low").status = "queued"


@plant("broken")
def an_accepted_attempt_never_started(scene: Scene) -> None:
    del scene.evidence.starts[scene.at("after")]


@plant("broken")
def an_accepted_attempt_never_ended(scene: Scene) -> None:
    del scene.evidence.ends[scene.at("after")]


@plant("doubled")
def one_claim_ran_twice(scene: Scene) -> None:
    scene.evidence.starts[scene.at("after")] *= 2


@plant("broken")
def a_handler_ran_without_a_claim(scene: Scene) -> None:
    node, attempt = scene.at("after")
    scene.evidence.starts[node, attempt + 1] = scene.evidence.starts[node, attempt]


@plant("broken")
def an_unknown_node_ran(scene: Scene) -> None:
    ran = Line("start", "00000000-0000-0000-0000-000000000000", 1, 1, 1.0)
    scene.evidence.starts[ran.node, 1].append(ran)


@plant("broken")
def an_attempt_left_no_row(scene: Scene) -> None:
    del scene.rows.attempts[scene.node("effect").id][0]


@plant("broken")
def two_attempts_were_accepted(scene: Scene) -> None:
    for attempt in scene.rows.attempts[scene.node("effect").id]:
        attempt.outcome = "succeeded"


@plant("doubled")
def a_join_happened_twice(scene: Scene) -> None:
    scene.step("first", id=10**9)


@plant("broken")
def a_join_came_before_its_last_child(scene: Scene) -> None:
    scene.rows.history[scene.node("first.low").id][-1].id = 10**9


@plant("broken")
def a_step_is_not_in_the_table(scene: Scene) -> None:
    scene.step("after", id=10**9, from_status="complete", to_status="queued")
    scene.node("after").status = "queued"


@plant("doubled")
def an_effect_happened_twice(scene: Scene) -> None:
    scene.evidence.effects[plain(scene.node("effect").id)] += 1


@plant("lost")
def an_effect_did_not_happen(scene: Scene) -> None:
    scene.evidence.effects.clear()


@plant("broken")
def a_result_is_somebody_elses(scene: Scene) -> None:
    scene.node("after").result = "first"


@plant("doubled")
def a_blocking_node_overlaps_the_next(scene: Scene) -> None:
    _start_before(scene, "effect", "first.low")


@plant("doubled")
def a_barrier_did_not_wait(scene: Scene) -> None:
    _start_before(scene, "after", "parallel")


@plant("broken")
def a_timer_went_off_early(scene: Scene) -> None:
    node = scene.node("parallel")
    scene.rows.attempts[node.id][0].started_at = node.created_at


@plant("broken")
def a_handler_started_in_a_pause(scene: Scene) -> None:
    node = scene.node("parallel")
    at = scene.rows.attempts[node.id][0].started_at.timestamp()
    scene.evidence.pauses = [(plain(node.workflow_id), at - 1, at + 1)]


@plant("doubled")
def two_attempts_overlap(scene: Scene) -> None:
    one, two = scene.rows.attempts[scene.node("effect").id]
    two.started_at = one.finished_at - timedelta(milliseconds=1)


@plant("broken")
def a_handler_failed_that_had_no_reason_to(scene: Scene) -> None:
    scene.rows.attempts[scene.node("root").id][0].outcome = "failed"


@plant("broken")
def a_failure_was_taken_for_a_success(scene: Scene) -> None:
    scene.rows.attempts[scene.node("effect").id][0].outcome = "lost"


@plant("broken")
def a_finished_node_holds_a_lease(scene: Scene) -> None:
    node = scene.node("after")
    node.lease_expires_at = node.finished_at


@plant("broken")
def a_place_was_given_twice(scene: Scene) -> None:
    scene.node("root").next_seq -= 1


@plant("broken")
def a_canceled_node_started(scene: Scene) -> None:
    node = scene.node("after")
    node.status, node.finished_at = "canceled", node.created_at


@plant("stuck")
def a_child_of_a_canceled_node_goes_on(scene: Scene) -> None:
    scene.node("first").status = "canceled"
    scene.node("first.low").status = "queued"


@plant("broken")
def a_workflow_has_two_unfinished_runs(scene: Scene) -> None:
    workflow = scene.rows.workflows[scene.node("root").workflow_id]
    scene.rows.workflows["other"] = workflow


def _start_before(scene: Scene, later: str, earlier: str) -> None:
    """Move the start of one handler before the end of another."""
    end = scene.evidence.ends[scene.at(earlier)][0].at
    lines = scene.evidence.starts[scene.at(later)]
    lines[0] = lines[0]._replace(at=end - 0.001)


def test_a_good_run_has_no_violation(good: Evidence) -> None:
    # A copy: a look at what is not there leaves a trace in the groups of rows.
    assert audit(deepcopy(good)) == []
    assert {attempt.outcome for rows in good.rows.attempts.values() for attempt in rows} == {
        "succeeded",
        "failed",
        "lost",
    }


@pytest.mark.parametrize("is_between", [True, False])
def test_a_claim_that_a_crash_forgot_is_made_again(good: Evidence, is_between: bool):
    scene = Scene(good)
    lines = scene.evidence.starts[scene.at("after")]
    lines.insert(0, lines[0]._replace(at=lines[0].at - 0.0002))
    at = lines[1].at - 0.0001 if is_between else lines[1].at + 1
    scene.evidence.crashes = [(at, at)]
    assert bool(audit(scene.evidence)) is not is_between


@pytest.mark.parametrize(("put", "kind"), plant.all)
def test_a_planted_violation_is_found(good: Evidence, put: Callable[[Scene], None], kind: str):
    assert kind in found_in(good, put)


@pytest.mark.parametrize(("task", "is_broken"), [("chaos.atomic", False), ("chaos.work", True)])
def test_a_handler_that_writes_may_hear_of_a_database_that_takes_no_writes(
    good: Evidence, task: str, is_broken: bool
):
    scene = Scene(good)
    node = scene.node("root")
    node.task = task
    attempt = scene.rows.attempts[node.id][0]
    attempt.outcome = "failed"
    attempt.error = "InternalError('cannot execute INSERT in a read-only transaction')"
    complaints = [violation.text for violation in audit(scene.evidence)]
    assert any("failed otherwise" in text for text in complaints) is is_broken

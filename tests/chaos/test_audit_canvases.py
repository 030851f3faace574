"""Planted violations of what canvases promise: values, bodies and callbacks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest
from celery import states

from tests.chaos.audit_canvases import CHECKS
from tests.chaos.evidence import Evidence
from tests.chaos.operators import BY_HAND
from tests.chaos.scene import Plants, Scene, found_in

pytestmark = pytest.mark.django_db
plant, plant_a_run = Plants(), Plants()
"""What the checks of canvases are to find, and what those of all nodes find in canvases, too."""

MEMBER, FAILED_MEMBER, BODY = "canvas.c3", "canvas.c6", "canvas.c8"
LINK, ERRBACK, LAST, LAST_ERRBACK = "canvas.c2", "canvas.c7", "canvas.c12", "canvas.c11"


@plant("broken")
def a_stored_value_is_somebody_elses(scene: Scene) -> None:
    scene.evidence.values.given[scene.node("canvas.c1").id] = ["canvas.c2"]


@plant("broken")
def a_list_of_values_is_in_another_order(scene: Scene) -> None:
    header = scene.rows.nodes[scene.node(MEMBER).parent_id]
    scene.evidence.values.given[header.id].reverse()


@plant("broken")
def a_value_is_missing(scene: Scene) -> None:
    del scene.evidence.values.given[scene.node(MEMBER).id]


@plant("broken")
def the_end_result_is_another_one(scene: Scene) -> None:
    top = scene.node("canvas").id
    scene.evidence.values.shown[top] = states.SUCCESS, ["nothing"]


@plant("broken")
def the_end_result_is_not_there(scene: Scene) -> None:
    scene.evidence.values.shown[scene.node("canvas").id] = states.REVOKED, None


@plant("broken")
def a_step_was_called_with_another_value(scene: Scene) -> None:
    lines = scene.evidence.starts[scene.at("canvas.c4")]
    lines[0] = lines[0]._replace(given=["canvas.c9"])


@plant("broken")
def a_step_was_given_up_and_nobody_did_it(scene: Scene) -> None:
    scene.node(LAST).status = "canceled"
    scene.step(LAST, to_status="canceled", reason="x was canceled")


@plant("broken")
def a_step_ran_whose_value_was_lost(scene: Scene) -> None:
    scene.node(MEMBER).status = "canceled"
    scene.step(MEMBER, to_status="canceled", reason="by mistake", actor="ada")


@plant("lost")
def a_member_is_not_there(scene: Scene) -> None:
    scene.forget(FAILED_MEMBER)


@plant("doubled")
def a_body_is_there_twice(scene: Scene) -> None:
    scene.double(BODY)


@plant("doubled")
def a_body_was_opened_twice(scene: Scene) -> None:
    body = scene.rows.nodes[scene.node(BODY).parent_id]
    steps = scene.rows.history[body.id]
    steps.append(SimpleNamespace(**vars(steps[1])))


@plant_a_run("doubled")
def a_body_was_started_twice(scene: Scene) -> None:
    scene.evidence.starts[scene.at(BODY)] *= 2


@plant("doubled")
def a_body_ran_before_a_member_was_complete(scene: Scene) -> None:
    finished = scene.node(FAILED_MEMBER).finished_at
    for attempt in scene.rows.attempts[scene.node(BODY).id]:
        attempt.started_at = finished - timedelta(milliseconds=1)


@plant_a_run("doubled")
def a_handler_of_a_body_began_before_that_of_a_member_ended(scene: Scene) -> None:
    end = scene.evidence.ends[scene.at(FAILED_MEMBER)][0].at
    lines = scene.evidence.starts[scene.at(BODY)]
    lines[0] = lines[0]._replace(at=end - 0.001)


@plant("lost")
def a_link_was_not_called(scene: Scene) -> None:
    scene.forget(LINK)


@plant("doubled")
def a_link_was_called_twice(scene: Scene) -> None:
    scene.double(LINK)


@plant("broken")
def a_link_was_called_with_another_value(scene: Scene) -> None:
    lines = scene.evidence.starts[scene.at(LINK)]
    lines[0] = lines[0]._replace(given=["nothing"])


@plant("lost")
def an_errback_was_not_called(scene: Scene) -> None:
    scene.forget(LAST_ERRBACK)


@plant("doubled")
def an_errback_of_a_body_was_called_for_each_member(scene: Scene) -> None:
    errbacks = scene.rows.children[scene.node(BODY).id]
    assert [errback.kwargs["label"] for errback in errbacks] == [ERRBACK]
    errbacks *= 2


@plant("broken")
def an_errback_was_called_about_another_node(scene: Scene) -> None:
    lines = scene.evidence.starts[scene.at(LAST_ERRBACK)]
    lines[0] = lines[0]._replace(given=[str(scene.node(BODY).id)])


@pytest.mark.parametrize(("put", "kind"), plant.all)
def test_a_planted_violation_is_found(good: Evidence, put: Callable[[Scene], None], kind: str):
    assert kind in found_in(good, put, CHECKS)


@pytest.mark.parametrize(("put", "kind"), plant_a_run.all)
def test_a_body_that_runs_wrongly_is_found(
    good: Evidence, put: Callable[[Scene], None], kind: str
):
    assert kind in found_in(good, put)


def test_what_an_operator_gives_is_what_follows_gets(good: Evidence):
    """A result by hand instead of the handler's own changes every value behind it."""
    scene = Scene(good)
    scene.node(FAILED_MEMBER).outcome = "resolved"
    texts = [violation.text for check in CHECKS for violation in check(scene.evidence)]
    assert any(BODY in text and BY_HAND in text for text in texts)

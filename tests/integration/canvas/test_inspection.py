"""What the tree and the explanations say of a canvas."""

from __future__ import annotations

from typing import Any

from celery import chain, chord, group

from backbeat_celery import signal
from backbeat_celery.models import Node
from backbeat_celery.testing import Simulation
from tests.integration.canvas.tasks import add, boom, by_id, double, total

LATER = 600


def run(canvas: Any, sim: Simulation) -> Node:
    node = signal(canvas, subject="order")
    sim.run()
    node.refresh_from_db()
    return node


def said(node: Node, *parts: str) -> None:
    sentence = node.explain()
    assert sentence.endswith(".") and "\n" not in sentence
    for part in parts:
        assert part in sentence, sentence


def tree_of(node: Node) -> list[str]:
    lines = node.workflow.render().replace("tests.integration.canvas.tasks.", "").split("\n")
    return [line.split(" after")[0].split(", due")[0] for line in lines[1:]]


def test_the_tree_of_a_chord_looks_like_a_chord(sim: Simulation) -> None:
    member = add.s(2, 2).on_error(by_id.s())
    member.link(double.s().set(countdown=LATER))
    node = run(chord([member, boom.s().on_error(by_id.s())], chain(total.s(), double.s())), sim)
    assert tree_of(node) == [
        "└─ ◑ chord waiting",
        "   ├─ ◑ header waiting",
        "   │  ├─ ✔ add complete",
        "   │  │  └─ ◔ double queued [link]",
        "   │  └─ ✖ boom failed",
        "   │     └─ ✔ by_id complete [error callback]",
        "   └─ ○ chain ready [body]",
        "      ├─ · total pending",
        "      └─ · double pending",
    ]
    header = node.tree().as_dict()["children"][0]
    assert (header["name"], header["container"], header["input"]) == ("header", "group", "none")


def test_a_body_names_the_member_that_failed(sim: Simulation) -> None:
    top = run(chord([add.s(1, 1), boom.s()], total.s()), sim)
    body, failed = Node.objects.get(task=total.name), Node.objects.get(task=boom.name)
    parts = f"member {boom.name} {failed.pk}, which failed at attempt 1", "no money"
    said(body, "is the body of a chord and waits for member", *parts)
    said(top, "chord waits for its member", *parts)
    said(failed, f"the canvas needs its value for {total.name} {body.pk}: retry() it")
    said(failed, "shutdown() or cancel() it to cancel that, too")
    failed.cancel()
    sim.run()
    said(body, "was canceled at", f"({boom.name} was canceled)")


def test_a_body_names_one_of_the_members_that_are_not_done(sim: Simulation) -> None:
    run(chord([add.s(i, i).set(countdown=LATER) for i in range(3)], total.s()), sim)
    said(Node.objects.get(task=total.name), "waits for 3 members, among them", "is due at")


def test_what_nothing_in_the_canvas_needs_is_explained_as_ever(sim: Simulation) -> None:
    run(chain(boom.s(), add.si(1, 1)), sim)
    failed = Node.objects.get(task=boom.name)
    said(failed, f"to start {add.name}")


def test_steps_of_chains_name_the_step_before(sim: Simulation) -> None:
    top = run(
        chain(add.s(1, 1).set(countdown=LATER), double.s(), group(add.s(1), add.s(2)), total.s()),
        sim,
    )
    first = Node.objects.get(task=add.name, kwargs={}, args=[1, 1])
    which = f"{add.name} {first.pk}, which is due at"
    said(top, "chain waits for 3 steps, among them", which)
    said(Node.objects.get(task=double.name), "is step 2 of its chain and waits for", which)
    inner = Node.objects.get(container="chord")
    said(inner, "is step 3 of its chain", which)
    header = Node.objects.get(name="header")
    said(header, f"header starts with chord {inner.pk}, which is step 3 of its chain", which)
    said(Node.objects.get(task=total.name), f"is a later step of chord {inner.pk}", which)


def test_callbacks_say_whose_they_are(sim: Simulation) -> None:
    linked = add.s(1, 1)
    linked.link(double.s().set(countdown=LATER))
    run(linked, sim)
    failed = run(boom.s().on_error(by_id.s().set(countdown=LATER)), sim)
    source = Node.objects.get(task=add.name)
    said(Node.objects.get(task=double.name), f"was linked to {add.name} {source.pk}", "due at")
    said(Node.objects.get(task=by_id.name), f"is an error callback of {boom.name} {failed.pk}")
    said(failed, "its error callback")


def test_a_node_says_when_it_expires(sim: Simulation) -> None:
    node = run(add.s(1, 1).set(countdown=LATER, expires=2 * LATER), sim)
    said(node, "is due at", "; it expires at", "(in 20 min) unless it has begun by then")
    assert "expires" in node.workflow.render()
    Node.objects.filter(pk=node.pk).update(fires_at=sim.now, expires_at=sim.now)
    sim.advance(minutes=1)
    node.refresh_from_db()
    said(node, "was canceled at", "(expired)")
    assert "expires" not in node.workflow.render()

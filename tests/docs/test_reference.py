"""The tables of the reference page on models are complete, and name nothing else."""

from __future__ import annotations

import re

import pytest
from django.db.models import Model

from backbeat_celery.models import Attempt, Node, Transition, Workflow
from tests.docs.pages import ROOT

PAGE = ROOT / "docs/reference/models.md"
INTERNAL = {
    Workflow: {"unfinished"},
    Node: {
        *("awaited_by", "claim_id", "report", "spawned_by", "publish_at", "publish_count"),
        *("next_seq", "next_stage", "next_barrier"),
    },
    Transition: {"id", "node"},
    Attempt: {"id", "node", "claim_id"},
}
"""Columns that are the engine's own, or go without saying."""


def fields_told(heading: str) -> set[str]:
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


@pytest.mark.parametrize("model", [Workflow, Node, Transition, Attempt])
def test_each_field_is_in_the_table(model: type[Model]) -> None:
    fields = {field.name for field in model._meta.concrete_fields}
    assert fields_told(model.__name__) == fields - INTERNAL[model]

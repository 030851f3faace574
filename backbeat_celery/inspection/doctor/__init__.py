"""Check the tables: each invariant is a query for the rows that break it; some can be repaired.

A check is one statement over a slice of the tables, so that large tables are checked in bounded
memory and without long transactions. A repair locks the rows, checks again, and changes a
status only as the engine does. docs/operating.md lists the checks.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import transaction
from django.db.models import Model

from backbeat_celery.conf import settings
from backbeat_celery.engine.advance import advance
from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.engine.order.finish import lock_node
from backbeat_celery.inspection.doctor import canvas, completion, history, ordering, workflows
from backbeat_celery.inspection.doctor.check import (
    Check,
    Checks,
    Finding,
    Slice,
    slices,
    subject_of,
)
from backbeat_celery.inspection.doctor.cycles import cycle_findings
from backbeat_celery.inspection.doctor.environment import environment_findings
from backbeat_celery.models import Node, Workflow, node_alias
from backbeat_celery.models.transitions import StaleNode
from backbeat_celery.runtime import clock
from backbeat_celery.runtime.transactions import repeat

__all__ = ["CHECKS", "DoctorReport", "Finding", "examine"]

CHECKS: Checks = (
    *workflows.CHECKS,
    *history.CHECKS,
    *ordering.CHECKS,
    *completion.CHECKS,
    *canvas.CHECKS,
)
MOST = 200
"""Findings of one check that one run keeps and repairs."""


@dataclass(slots=True)
class DoctorReport:
    """What a run of all checks has found."""

    findings: list[Finding] = field(default_factory=list)
    more: Counter[str] = field(default_factory=Counter)
    """Checks with more findings than were kept."""

    @property
    def broken(self) -> list[Finding]:
        """Findings that were not fixed, without hints."""
        return [found for found in self.findings if found.is_serious and not found.is_fixed]

    @property
    def is_healthy(self) -> bool:
        return not self.broken


def examine(
    using: str | None = None,
    *,
    fix: bool = False,
    wait: float | None = None,
    most: int = MOST,
) -> DoctorReport:
    """Find rows that break an invariant, at most `most` for each check; with `fix`, repair them.

    What the sweeper repairs by itself is checked again after `wait` seconds, by default two of
    its intervals, and is reported only if it is still there.
    """
    examination = _Examination(using or node_alias(), fix, most)
    examination.check_all()
    examination.check_transient(_default_wait() if wait is None else wait)
    report = examination.report
    report.findings += [
        *cycle_findings(examination.using, most),
        *environment_findings(examination.using),
    ]
    return report


def _default_wait() -> float:
    # A simulated clock does not move meanwhile.
    return 0.0 if clock.is_simulated() else settings.sweep_interval * 2 + 1


class _Examination:
    def __init__(self, using: str, fix: bool, most: int) -> None:
        self.using = using
        self.report = DoctorReport()
        self._fix = fix
        self._most = most
        self._found: Counter[str] = Counter()
        self._transient: dict[str, list[Any]] = defaultdict(list)

    def check_all(self) -> None:
        """Check all tables once."""
        for part in slices(self.using):
            for check in CHECKS:
                for row in self._rows(check, part):
                    if check.is_transient:
                        self._transient[check.name].append(row.pk)
                    else:
                        self._note(check, row)

    def check_transient(self, wait: float) -> None:
        """Check transient findings again, and keep those that are still there."""
        if self._transient and wait and not self._fix:
            time.sleep(wait)
        for check in CHECKS:
            if ids := self._transient.get(check.name):
                for row in check.find(Slice(self.using)).filter(pk__in=ids):
                    self._note(check, row)

    def _rows(self, check: Check, part: Slice) -> Iterator[Model]:
        room = self._most - self._found[check.name]
        if room <= 0:
            return
        rows = list(check.find(part)[: room + 1])
        self._found[check.name] += len(rows[:room])
        if len(rows) > room:
            self.report.more[check.name] += 1
        yield from rows[:room]

    def _note(self, check: Check, row: Model) -> None:
        found = Finding(check.name, check.invariant, subject_of(row), check.problem, check.advice)
        if self._fix and check.repair is not None:
            found.is_fixed = self._repaired(check, row)
        self.report.findings.append(found)

    def _repaired(self, check: Check, row: Model) -> bool:
        try:
            after_commit = repeat(lambda: self._repair(check, row.pk, type(row)), using=self.using)
        except (StaleNode, ObjectDoesNotExist):
            after_commit = None  # changed meanwhile: checked below
        if after_commit:
            advance(after_commit, self.using)
        return not self._is_broken(check, row.pk)

    def _repair(self, check: Check, pk: Any, model: type[Model]) -> AfterCommit | None:
        with transaction.atomic(using=self.using):
            row = self._lock(model, pk)
            if row is None or not self._is_broken(check, pk):
                return None
            assert check.repair is not None
            return check.repair(row)

    def _is_broken(self, check: Check, pk: Any) -> bool:
        return bool(check.find(Slice(self.using)).filter(pk=pk).exists())

    def _lock(self, model: type[Model], pk: Any) -> Model | None:
        """Lock as the engine does: the workflow, then ancestors before descendants."""
        rows = model._default_manager.using(self.using).filter(pk=pk)
        row = rows.first()
        if isinstance(row, Node):
            if row.parent_id is not None:
                lock_node(row.parent_id, self.using)
            return lock_node(row.pk, self.using)[0]
        if isinstance(row, Workflow):
            row = rows.select_for_update().first()
            lock_node(pk, self.using)
        return row

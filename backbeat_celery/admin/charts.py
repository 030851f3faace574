"""Charts as geometry: bars in percent, drawn by the server as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

GAP = 0.18
"""Share of a column's width that is left empty."""

HEIGHT = 100.0


@dataclass(frozen=True, slots=True)
class Column:
    """What happened in one interval of time."""

    at: datetime
    good: int
    bad: int


@dataclass(frozen=True, slots=True)
class Bar:
    """One column as it is drawn: failures at the bottom, successes above."""

    column: Column
    x: str
    width: str
    good_y: str
    good_height: str
    bad_y: str
    bad_height: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Columns side by side, scaled to the highest."""

    columns: Sequence[Column]

    @property
    def good(self) -> int:
        return sum(column.good for column in self.columns)

    @property
    def bad(self) -> int:
        return sum(column.bad for column in self.columns)

    @property
    def highest(self) -> int:
        return max((column.good + column.bad for column in self.columns), default=0)

    def bars(self) -> list[Bar]:
        step = 100 / max(1, len(self.columns))
        return [self._bar(i * step, step, column) for i, column in enumerate(self.columns)]

    def _bar(self, x: float, step: float, column: Column) -> Bar:
        scale = HEIGHT / max(1, self.highest)
        good, bad = column.good * scale, column.bad * scale
        if column.bad:
            bad = max(bad, 2.0)  # one failure among thousands stays visible
        return Bar(
            column,
            x=_percent(x + step * GAP / 2),
            width=_percent(step * (1 - GAP)),
            good_y=_percent(HEIGHT - bad - good),
            good_height=_percent(good),
            bad_y=_percent(HEIGHT - bad),
            bad_height=_percent(bad),
        )


def _percent(value: float) -> str:
    return f"{max(0.0, value):.2f}%"

"""Which workloads there are, how large, who takes part in them, and what is to be reached."""

from __future__ import annotations

from dataclasses import dataclass, field

NEEDS = {"dbos": "dbos", "absurd": "absurd_sdk"}
"""Contestants that are optional installs, and the module that they need."""


@dataclass(frozen=True)
class Goal:
    """What a figure of one contestant is to be, alone or as a ratio to that of another.

    The figures are `rate` and `time` (a unit's), and those that the workload notes itself.
    """

    ours: str
    than: str = ""
    figure: str = "rate"
    at_least: float | None = None
    at_most: float | None = None
    at_least_on_rabbitmq: float | None = None

    def bound(self, broker: str) -> float:
        """The number that the goal names, for a broker."""
        if broker == "rabbitmq" and self.at_least_on_rabbitmq is not None:
            return self.at_least_on_rabbitmq
        bound = self.at_most if self.at_least is None else self.at_least
        assert bound is not None
        return bound

    def is_met(self, value: float, broker: str) -> bool:
        """Whether a measured number reaches the goal."""
        bound = self.bound(broker)
        return value <= bound if self.at_least is None else value >= bound


@dataclass(frozen=True)
class Workload:
    """A workload: a module of benchmarks.workloads, its full size, contestants and goals."""

    name: str
    title: str
    size: int
    contestants: tuple[str, ...]
    goals: tuple[Goal, ...] = ()
    unit: str = "nodes/s"
    rounds: int | None = field(default=None)
    """At most so many, where one takes minutes."""


RAW = (
    Goal("ours", "celery", at_least=0.8, at_least_on_rabbitmq=0.37),
    Goal("ours_bundles", "celery", at_least=1.5),
)

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "w1",
            "independent nodes, a workflow each",
            5000,
            ("ours", "ours_bundles", "celery", "dbos", "absurd"),
            RAW,
        ),
        Workload(
            "w1_children",
            "children of one parent",
            5000,
            ("ours", "ours_bundles", "celery"),
            RAW,
        ),
        Workload(
            "w2",
            "a fan-out and a join",
            1000,
            (
                "ours",
                "ours_bundles",
                "ours_canvas",
                "celery",
                "chord_redis",
                "chord_postgres",
                "dbos",
                "absurd",
            ),
            (
                Goal("ours", "chord_redis", at_least=1.0, at_least_on_rabbitmq=0.9),
                Goal("ours", "chord_postgres", at_least=2.5),
                Goal("ours", "dbos", at_least=4),
                Goal("ours", "absurd", at_least=1.3),
                Goal("ours_bundles", "celery", at_least=1.5),
                Goal("ours_canvas", "ours", "time", at_most=1.1),
                Goal("ours_canvas", "chord_redis", at_least=1.0, at_least_on_rabbitmq=0.9),
            ),
        ),
        Workload(
            "w3",
            "a chain",
            200,
            ("ours", "ours_chain", "ours_values", "chain_redis", "dbos"),
            (
                Goal("ours", "chain_redis", "time", at_most=1.3),
                Goal("ours_values", "ours_chain", "time", at_most=1.1),
            ),
            "hops/s",
        ),
        Workload(
            "w4",
            "submitting from a client",
            1000,
            ("ours", "ours_known", "ours_many", "celery"),
            (
                Goal("ours", "celery", at_least=0.5),
                Goal("ours_known", "celery", at_least=0.5),
                Goal("ours_many", "celery", at_least=1.0),
            ),
            "signals/s",
        ),
        Workload(
            "w5",
            "fan-outs of any width, in full tables",
            1000,
            ("ours", "ours_10x", "ours_100x", "ours_full"),
            (
                Goal("ours_10x", "ours", "time", at_most=1.15),
                Goal("ours_100x", "ours", "time", at_most=1.15),
                Goal("ours_full", "ours", "time", at_most=1.2),
                Goal("ours_100x", "", "growth of memory, %", at_most=5),
            ),
            rounds=3,
        ),
        Workload(
            "w6",
            "from a signal to its handler's start, idle",
            400,
            ("ours", "celery"),
            (
                Goal("ours", "celery", "p50, ms", at_most=2),
                Goal("ours", "celery", "p99, ms", at_most=2),
            ),
            "signals/s",
        ),
        Workload(
            "w7",
            "a million pending timers",
            1_000_000,
            ("ours",),
            (
                Goal("ours", "", "growth of memory, %", at_most=1),
                Goal("ours", "", "sweep, s", at_most=1),
                Goal("ours", "", "late, p99, s", at_most=1),
            ),
            rounds=2,
        ),
        Workload(
            "w8",
            "the body of a chord with many results",
            10_000,
            ("ours", "ours_lazy"),
            (
                Goal("ours", "", "from the last member to the body, ms", at_most=300),
                Goal("ours", "", "growth, MB", at_most=20),
                Goal("ours_lazy", "", "growth, MB", at_most=20),
            ),
            "members/s",
            rounds=3,
        ),
    )
}

"""Messages that no friend of ours has sent: malformed, forged, oversized, foreign, old."""

from __future__ import annotations

import json
import pickle
import random
import zlib
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

from backbeat_celery.runtime.content_type import CONTENT_TYPE
from tests.chaos.messages import Raw
from tests.chaos.values import TEXTS

JSON = "application/json"
TASKS = ["chaos.work", "chaos.atomic", "chaos.timed", "chaos.brittle"]
ODD_TASKS = [
    *("os.system", "builtins.eval", "celery.backend_cleanup", "celery.chord", "backbeat.sweep"),
    *("", "x" * 5000, "chaos.work\x00", "../chaos.work", "__import__", "chaos.WORK"),
]
LARGE = 300_000
BOMB = pickle.dumps(print)


class Forger:
    """Makes messages; knows the ids of some nodes, as somebody who reads the broker would."""

    def __init__(self, rng: random.Random, nodes: list[str]) -> None:
        self.rng = rng
        self.nodes = nodes
        self.kinds: dict[str, Callable[[], Raw]] = {
            "wrong node": self.wrong_node,
            "wrong attempt": self.wrong_attempt,
            "wrong task": self.wrong_task,
            "header of wrong type": self.wrong_header,
            "header with wrong fields": self.wrong_fields,
            "forged claim": self.forged_claim,
            "unknown task": self.unknown_task,
            "oversized": self.oversized,
            "pickled": self.pickled,
            "undecodable": self.undecodable,
            "wrong protocol": self.wrong_protocol,
            "options of wrong type": self.wrong_options,
            "arguments of its own": self.own_arguments,
        }

    def make(self) -> tuple[str, Raw]:
        """One message and what kind it is."""
        kind = self.rng.choice(list(self.kinds))
        return kind, self.kinds[kind]()

    def node(self) -> str:
        return self.rng.choice(self.nodes)

    def odd(self) -> Any:
        """A JSON value of any type."""
        return self.rng.choice(
            [None, True, 0, -1, 2**31, 2**80, 0.5, [], {}, [[[]]], {"a": {}}, *TEXTS[:17]]
        )

    def message(self, header: Any, task: Any = None, body: Any = None, **more: Any) -> Raw:
        """A message as Celery sends it, with our header as given."""
        name = self.rng.choice(TASKS) if task is None else task
        headers = {
            "lang": "py",
            "task": name,
            "id": str(uuid4()),
            "root_id": None,
            "parent_id": None,
            "group": None,
            "retries": 0,
            "eta": None,
            "expires": None,
            "timelimit": [None, None],
            "argsrepr": "()",
            "kwargsrepr": "{}",
            "origin": "fuzz",
            "backbeat": header,
            **more,
        }
        text = json.dumps([[], {}, {}] if body is None else body)
        return text, self.properties(headers, self.rng.choice([JSON, CONTENT_TYPE]))

    def properties(
        self, headers: Any, kind: str = JSON, encoding: str = "utf-8"
    ) -> dict[str, Any]:
        return {"headers": headers, "content_type": kind, "content_encoding": encoding}

    def header(self, **more: Any) -> dict[str, Any]:
        return {"node": self.node(), "attempt": 1, "db": "default", **more}

    def wrong_node(self) -> Raw:
        ids = [
            str(uuid4()),
            str(UUID(int=0)),
            str(UUID(int=2**128 - 1)),
            "x" * 36,
            self.node()[:-1],
        ]
        return self.message(self.header(node=self.rng.choice(ids)))

    def wrong_attempt(self) -> Raw:
        numbers = [0, -1, 2, 3, 99, 2**31 - 1, 2**31, 2**63, 10**30]
        return self.message(self.header(attempt=self.rng.choice(numbers)))

    def wrong_task(self) -> Raw:
        return self.message(self.header(attempt=self.rng.randint(1, 3)), "chaos.rescue")

    def wrong_header(self) -> Raw:
        return self.message(self.odd() or "backbeat")

    def wrong_fields(self) -> Raw:
        header = self.header()
        for _ in range(self.rng.randint(1, 3)):
            header[self.rng.choice([*header, "extra", ""])] = self.odd()
        if self.rng.random() < 0.3:
            header.pop(self.rng.choice(list(header)))
        return self.message(header)

    def forged_claim(self) -> Raw:
        return self.message(
            self.header(attempt=self.rng.randint(1, 3)), backbeat_claim=self.rng.choice(self.nodes)
        )

    def unknown_task(self) -> Raw:
        header = self.rng.choice([None, self.header()])
        return self.message(header, self.rng.choice(ODD_TASKS))

    def oversized(self) -> Raw:
        big = "x" * LARGE
        if self.rng.random() < 0.5:
            return self.message(self.header(node=big))
        return self.message(self.header(), body=[[big], {}, {}])

    def pickled(self) -> Raw:
        kinds = ["application/x-python-serialize", "application/x-yaml", "application/x-msgpack"]
        _, properties = self.message(self.header())
        properties |= {"content_type": self.rng.choice(kinds), "content_encoding": "binary"}
        return BOMB, properties

    def undecodable(self) -> Raw:
        _, properties = self.message(self.header())
        bodies = [b"\xff\xfe", b"{", b"", b"[[", b"\x00" * 50, b"[" * 2000, zlib.compress(b"[]")]
        properties["content_encoding"] = self.rng.choice(["utf-8", "ascii", "binary", "utf-99"])
        if self.rng.random() < 0.2:
            properties["headers"]["compression"] = self.rng.choice(["application/x-gzip", "no"])
        return self.rng.choice(bodies), properties

    def wrong_protocol(self) -> Raw:
        bodies = [
            self.odd(),
            {"task": "chaos.work"},
            [1],
            [[], {}],
            [[], {}, {}, {}],
            [{}, [], []],
        ]
        body, properties = self.message(self.header(), body=self.rng.choice(bodies))
        if self.rng.random() < 0.4:
            properties["headers"].pop(self.rng.choice(["id", "task", "lang", "timelimit"]))
        return body, properties

    def wrong_options(self) -> Raw:
        names = [
            "eta",
            "expires",
            "timelimit",
            "retries",
            "root_id",
            "group",
            "shadow",
            "reply_to",
        ]
        names += ["ignore_result", "replaced_task_nesting", "stamped_headers", "stamps", "origin"]
        return self.message(self.header(), **{self.rng.choice(names): self.odd()})

    def own_arguments(self) -> Raw:
        embed = {
            "callbacks": [{"task": "chaos.work", "args": [1], "kwargs": {}, "options": {}}],
            "errbacks": self.odd(),
            "chain": self.rng.choice([None, [], [{"task": "os.system"}]]),
            "chord": None,
        }
        body = [[{"label": "forged"}], {"x": self.odd()}, embed]
        return self.message(self.header(attempt=self.rng.randint(1, 3)), body=body)

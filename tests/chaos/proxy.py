"""A proxy between the workers and their database that breaks connections on command.

Runs as a process of its own. Commands come as JSON lines on its standard input, answers go to
its standard output; the first line there is the port.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

CHUNK = 65536
SMALL = 64
"""A COMMIT is a packet of its own; that word in somebody's data is none."""


class Trouble:
    """What the proxy is told to do to the connections that pass through it."""

    def __init__(self) -> None:
        self.links: set[Link] = set()
        self.cuts = 0
        self.applied = 0
        self.dropped = 0
        self.halves = 0
        self.orphans: list[Any] = []
        """Connections to the server whose clients are gone, and it does not know."""
        self.delay = 0.0
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.random = random.Random(0)

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command; give the counts so far."""
        match command.pop("do"):
            case "cut_commits":
                self.cuts = command["count"]
                self.random.seed(command["seed"])
            case "delay":
                self.delay = command["seconds"]
            case "hole":
                self.is_open.clear()
            case "mend":
                self.is_open.set()
                self.cut_all()
            case "cut_all":
                self.cut_all()
            case "half_open":
                self.halves = command["count"]
            case "close_halves":
                for writer in self.orphans:
                    writer.transport.abort()
                self.orphans.clear()
        return {
            "cuts": self.cuts,
            "applied": self.applied,
            "dropped": self.dropped,
            "halves": self.halves,
        }

    def cut_all(self) -> None:
        for link in list(self.links):
            link.cut()


class Link:
    """One client's connection and its counterpart to the server."""

    def __init__(self, trouble: Trouble, client: Any, server: Any) -> None:
        self.trouble = trouble
        self.client = client
        self.server = server
        self.swallow = False
        trouble.links.add(self)

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._to_server())
                group.create_task(self._to_client())
        finally:
            self.cut()

    def cut(self) -> None:
        """Break both sides at once."""
        self.trouble.links.discard(self)
        self.client[1].transport.abort()
        if self.server[1] not in self.trouble.orphans:
            self.server[1].transport.abort()

    async def _to_server(self) -> None:
        trouble = self.trouble
        while data := await self.client[0].read(CHUNK):
            await trouble.is_open.wait()
            if trouble.delay:
                await asyncio.sleep(trouble.delay)
            if trouble.halves and len(data) < SMALL and b"COMMIT" in data:
                # The server waits in the middle of a transaction, with all its locks.
                trouble.halves -= 1
                trouble.orphans.append(self.server[1])
                break
            if trouble.cuts and len(data) < SMALL and b"COMMIT" in data:
                trouble.cuts -= 1
                if trouble.random.random() < 0.5:
                    trouble.dropped += 1
                    break
                self.swallow = True
            self.server[1].write(data)
            await self.server[1].drain()
        self.cut()

    async def _to_client(self) -> None:
        while data := await self.server[0].read(CHUNK):
            if self.swallow:
                # The server has done it; nobody will hear of that.
                self.trouble.applied += 1
                break
            await self.trouble.is_open.wait()
            self.client[1].write(data)
            await self.client[1].drain()
        self.cut()


async def serve(port: int) -> None:
    """Pass on connections to a local port until standard input ends."""
    trouble = Trouble()

    async def accept(reader: Any, writer: Any) -> None:
        with suppress(OSError, ExceptionGroup):
            await trouble.is_open.wait()
            server = await asyncio.open_connection("127.0.0.1", port)
            await Link(trouble, (reader, writer), server).run()
        writer.transport.abort()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        commands = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
        )
        while line := await commands.readline():
            print(json.dumps(trouble.obey(json.loads(line))), flush=True)
        trouble.cut_all()
        trouble.obey({"do": "close_halves"})
        server.close()


class Proxy:
    """The proxy as the harness holds it."""

    def __init__(self, port: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.proxy", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._turn = threading.Lock()
        self.port: int = self._answer()["port"]

    def tell(self, do: str, **more: Any) -> dict[str, int]:
        """Give a command and wait for its answer; from any thread."""
        assert self.process.stdin is not None
        with self._turn:
            self.process.stdin.write(json.dumps({"do": do, **more}) + "\n")
            self.process.stdin.flush()
            return self._answer()

    def _answer(self) -> dict[str, int]:
        assert self.process.stdout is not None
        answer: dict[str, int] = json.loads(self.process.stdout.readline())
        return answer

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=10)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))

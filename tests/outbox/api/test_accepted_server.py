"""Programs that ask over HTTP: asyncio, against a real server, which is killed meanwhile."""

import asyncio
import json
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from typing import Any

import pytest
from django.db import connection

from outbox.models import Request, Settlement
from outbox.testing import drain
from tests.kit.processes import Process
from tests.kit.waiting import until
from tests.relay.api.test_real_servers import Server, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("_quoting"),
]
WHERE = "/shop/plain"
COUNT = 24
"""Programs that ask at once: more than may wait in one process."""


class QuoteServer(Process):
    program = ("-m", "tests.outbox.api.quote_server")


@pytest.fixture
def server(database_url: str) -> Iterator[Server]:
    def make(port: int, **environment: str) -> Process:
        return QuoteServer(str(port), **environment)  # type: ignore[arg-type]

    with running(database_url, make, TEST_INBOX=json.dumps({"GROUP": "shop"})) as found:
        yield found


@dataclass(frozen=True)
class Answer:
    """What a server has answered."""

    status: int
    headers: Message
    body: bytes

    @property
    def told(self) -> dict[str, Any]:
        return json.loads(self.body)  # type: ignore[no-any-return]


class Program:
    """Asks by HTTP/1.1 in a coroutine, and asks again with its key if the connection breaks."""

    def __init__(self, server: Server, number: int) -> None:
        self.server = server
        self.number = number
        self.polls = 0
        self.unchanged = 0
        self.broken = 0

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        data = b"" if body is None else json.dumps(body).encode()
        given = {
            "Host": "127.0.0.1",
            "Connection": "close",
            "X-Visitor": f"program {self.number}",
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [
            f"{method} {path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in given.items()),
        ]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode() + data)
            head = await reader.readuntil(b"\r\n\r\n")
            rest = await reader.read()
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        status, _, fields = head.partition(b"\r\n")
        return Answer(int(status.split()[1]), BytesParser().parsebytes(fields), rest)

    async def ask(self, **headers: str) -> Answer:
        while True:
            try:
                return await self.send(
                    "POST", WHERE, {"number": self.number}, Idempotency_Key="k", **headers
                )
            except (OSError, asyncio.IncompleteReadError):
                self.broken += 1
                await asyncio.sleep(0.1)

    async def result(self, **headers: str) -> dict[str, Any]:
        """Ask, and poll as often as one is told to, until it has ended."""
        answer = await self.ask(**headers)
        where, etag = answer.headers["Location"], answer.headers["ETag"]
        while answer.status != 200 or answer.told["state"] == "pending":
            assert answer.status in (200, 202, 304), answer.body
            await asyncio.sleep(int(answer.headers["Retry-After"]))
            self.polls += 1
            answer = await self.send("GET", where, If_None_Match=etag)
            self.unchanged += answer.status == 304
        return answer.told


def in_a_thread(work: Coroutine[Any, Any, Any]) -> tuple[threading.Thread, list[Any]]:
    """Run a coroutine in a loop of its own, beside the test; return what it returns, in a list."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(work)), daemon=True)
    thread.start()
    return thread, found


def test_programs_poll(server: Server) -> None:
    """Each has its own answer, and has asked once, however often it has looked."""
    programs = [Program(server, number) for number in range(1, COUNT + 1)]

    async def all_of_them() -> list[dict[str, Any]]:
        return await asyncio.gather(*(each.result() for each in programs))

    thread, found = in_a_thread(all_of_them())
    until(lambda: Request.objects.count() == COUNT)
    until(lambda: all(each.unchanged for each in programs))
    drain()
    thread.join(60)

    assert [each["result"]["data"] for each in found[0]] == [
        {"amount": each.number * 2} for each in programs
    ]
    assert Request.objects.count() == COUNT


def test_programs_wait(server: Server) -> None:
    """Those for whom there is a place are told at once; the others poll."""
    programs = [Program(server, number) for number in range(1, COUNT + 1)]

    async def all_of_them() -> list[dict[str, Any]]:
        return await asyncio.gather(*(each.result(Prefer="wait=20") for each in programs))

    thread, found = in_a_thread(all_of_them())
    until(lambda: Request.objects.count() == COUNT)
    until(lambda: sum(each.polls > 0 for each in programs) == COUNT - 8)
    drain()
    thread.join(60)

    assert {each["state"] for each in found[0]} == {"answered"}
    assert sum(each.polls == 0 for each in programs) == 8


def test_a_server_that_is_killed_while_one_waits(server: Server) -> None:
    """Whoever asks again with its key, of any server, has the request that was accepted."""
    program = Program(server, 7)
    thread, found = in_a_thread(program.result(Prefer="wait=20"))
    until(lambda: Request.objects.exists())
    until(lambda: listening() == 1)
    server.kill()
    until(lambda: program.broken)
    drain()
    assert Settlement.objects.count() == 1
    server.start()
    thread.join(60)

    assert found[0]["result"]["data"] == {"amount": 14}
    assert Request.objects.count() == 1
    assert server.process.running
    server.process.send(signal.SIGTERM)


def listening() -> int:
    """Return how many sessions of the server have looked for a settlement last: they wait."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
            "application_name = 'peers-stream' AND query LIKE 'SELECT%%settlement%%'"
        )
        return int(cursor.fetchone()[0])

"""What a supervisor is told about a process, over HTTP."""

import argparse
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from django.core.management import CommandError

from outbox.runtime import health
from outbox.runtime.health import HealthServer, add_arguments, serving, turning
from tests.kit.probes import ask


class Process:
    """A process as it says it is."""

    def __init__(self) -> None:
        self.wrong: str | Exception = ""

    def __call__(self) -> str:
        if isinstance(self.wrong, Exception):
            raise self.wrong
        return self.wrong


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
def url(process: Process) -> Iterator[str]:
    with HealthServer("127.0.0.1", 0, alive=lambda: "", ready=process) as server:
        yield server.url


class TestServer:
    """What it answers."""

    def test_well(self, url: str) -> None:
        """200, and a word."""
        assert ask(f"{url}/healthz") == ask(f"{url}/readyz?verbose") == (200, "ok\n")

    def test_not_well(self, url: str, process: Process) -> None:
        """503 and what is missing; each is asked for itself."""
        process.wrong = "broker"
        assert ask(f"{url}/readyz") == (503, "broker\n")
        assert ask(f"{url}/healthz") == (200, "ok\n")
        process.wrong = ""
        assert ask(f"{url}/readyz") == (200, "ok\n")

    def test_head(self, url: str, process: Process) -> None:
        """The same without the words."""
        process.wrong = "broker"
        assert ask(f"{url}/readyz", "HEAD") == (503, "")

    def test_what_it_does_not_know(self, url: str) -> None:
        """It changes nothing and shows nothing else."""
        assert ask(f"{url}/")[0] == 404
        assert ask(f"{url}/readyz", "POST")[0] == 501

    def test_what_cannot_be_told_is_not_well(
        self, url: str, process: Process, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The log says why, and the answer does not."""
        process.wrong = RuntimeError("secret")
        assert ask(f"{url}/readyz") == (503, "unknown\n")
        assert "cannot be told: RuntimeError: secret" in caplog.text

    def test_a_slow_client_keeps_nobody_waiting(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And is dropped."""
        monkeypatch.setattr(health._Handler, "timeout", 0.2)
        with closing(self.connect(url)) as slow:
            slow.sendall(b"GET /heal")
            assert ask(f"{url}/healthz")[0] == 200
            slow.settimeout(10)
            assert slow.recv(100) == b""

    @pytest.mark.parametrize(
        "sent", [b"\r\n", b"\x00\xff\r\n\r\n", b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n"]
    )
    def test_nonsense_harms_nobody(
        self, url: str, sent: bytes, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Nor does a client that goes away; nothing is printed."""
        with closing(self.connect(url)) as client:
            client.sendall(sent)
        assert ask(f"{url}/healthz")[0] == 200
        assert capfd.readouterr() == ("", "")

    def test_it_ends_while_a_client_is_there(self) -> None:
        """A supervisor that keeps its connection keeps no process from ending."""
        with HealthServer("127.0.0.1", 0, alive=lambda: "", ready=lambda: "") as server:
            client = self.connect(server.url)
            client.sendall(b"GET /healthz")
            started = time.monotonic()
        with closing(client):
            assert time.monotonic() - started < 4
            assert not [each for each in threading.enumerate() if each.name == "outbox-health"]

    def test_ipv6(self) -> None:
        """By an address of either kind."""
        try:
            server = HealthServer("::1", 0, alive=lambda: "", ready=lambda: "")
        except OSError:
            pytest.skip("this machine has no IPv6")
        with server:
            assert ask(f"{server.url}/healthz") == (200, "ok\n")

    @staticmethod
    def connect(url: str) -> socket.socket:
        host, port = url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)))


def test_a_loop_that_does_not_turn_is_stuck() -> None:
    """One of several is enough."""
    now = time.monotonic()
    assert turning(lambda: [now, now], 10)() == ""
    assert turning(lambda: [now, now - 20], 10)() == "stuck"


class TestOptions:
    """Of a command that may serve it."""

    def parse(self, *arguments: str) -> dict[str, Any]:
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        return vars(parser.parse_args(arguments))

    def serve(self, options: dict[str, Any]) -> Any:
        return serving(options, alive=lambda: "", ready=lambda: "", tell=lambda text: None)

    def test_without_a_port_nobody_listens(self) -> None:
        """Nor is there a thread."""
        before = threading.active_count()
        with self.serve(self.parse()):
            assert threading.active_count() == before

    @pytest.mark.parametrize("mode", ["once", "until_empty"])
    def test_who_runs_once_has_no_health(self, mode: str) -> None:
        """A probe would never come at the right time."""
        with pytest.raises(CommandError, match="until it is stopped"):
            self.serve(self.parse("--health-port=0") | {mode: True})

    def test_a_port_that_is_taken(self) -> None:
        """Is named, and nothing has begun."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(CommandError, match="Cannot listen"):
                self.serve(self.parse(f"--health-port={port}"))

    @pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
    def test_no_number_of_seconds(self, seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
        """Is refused with the reason."""
        with pytest.raises(SystemExit):
            self.parse(f"--health-seconds={seconds}")
        assert "must be a positive number of seconds" in capsys.readouterr().err


def connected(url: str) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def test_who_says_a_word_now_and_then_is_not_waited_for(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is for the whole request, and not for each of its bytes."""
    monkeypatch.setattr(health, "PATIENCE", 1.0)
    with closing(connected(url)) as slow:
        started = time.monotonic()
        try:
            while time.monotonic() - started < 8:
                slow.sendall(b"x")
                slow.settimeout(0.3)
                try:
                    if slow.recv(1) == b"":
                        break
                except TimeoutError:
                    continue
        except OSError:
            pass
        assert time.monotonic() - started < 5
    assert ask(f"{url}/healthz") == (200, "ok\n")


def test_many_that_are_silent_keep_nobody_from_an_answer(url: str) -> None:
    """There are no more threads than a few, whoever connects."""
    before = threading.active_count()
    silent = [connected(url) for _ in range(3 * health.MOST)]
    try:
        for _ in range(3):
            assert ask(f"{url}/healthz") == (200, "ok\n")
        assert threading.active_count() <= before + health.MOST + 1
    finally:
        for each in silent:
            each.close()
    assert ask(f"{url}/readyz") == (200, "ok\n")


def test_several_requests_in_one_go_get_one_answer(url: str) -> None:
    """A connection is for one."""
    with closing(connected(url)) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        found = b""
        try:
            while part := client.recv(4096):
                found += part
        except ConnectionError:
            pass  # what was not read is thrown away
        assert found.count(b"200 OK") <= 1
    assert ask(f"{url}/healthz") == (200, "ok\n")

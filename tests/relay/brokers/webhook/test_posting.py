"""One POST: it goes to where the URL says, over a connection that was vetted, and nowhere else."""

import socket
import sys
import threading
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from outbox.webhooks.addresses import Subnet
from relay.brokers.base import CONFIRMED, Status
from relay.brokers.webhook.answers import Answer
from relay.brokers.webhook.posting import post
from tests.kit.services.callbacks import Answering, CallbackServer, Dripping, Sipping
from tests.kit.services.tls import Authority

pytestmark = pytest.mark.sqlite

LOOPBACK: list[Subnet] = [ip_network("127.0.0.0/8")]
METADATA = "169.254.169.254"

_connected: list[Any] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _connected is not None:
        _connected.append(arguments[1])


sys.addaudithook(_watch)  # there is no way to take it away


@pytest.fixture
def connected() -> Iterator[list[Any]]:
    """Gives the addresses that this process connects to."""
    global _connected
    _connected = []
    yield _connected
    _connected = None


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server() -> Iterator[CallbackServer]:
    with CallbackServer() as made:
        yield made


@pytest.fixture
def secure(authority: Authority) -> Iterator[CallbackServer]:
    """A server with a certificate for 127.0.0.1 and for "hooks.example"."""
    with CallbackServer(authority.issue("IP:127.0.0.1", "DNS:hooks.example")) as made:
        yield made


def call(url: str, *, timeout: float = 5.0, ca_file: object = "", subnets: Any = ()) -> Answer:
    headers = {"Content-Type": "text/plain", "webhook-id": "1"}
    return post(url, b"body", headers, timeout=timeout, ca_file=str(ca_file or ""), subnets=subnets)


def resolve(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Let names resolve to these addresses, one after the other; return what was asked for."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *arguments: Any, **options: Any) -> Any:
        if not host[0].isalpha():
            return real(host, port, *arguments, **options)  # an address, which urllib3 looks up
        asked.append(host)
        return real(answers[min(len(asked), len(answers)) - 1], port, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_a_post_arrives(server: CallbackServer) -> None:
    assert call(f"{server.origin}/hook?token=a%20b", subnets=LOOPBACK) == Answer(CONFIRMED)

    [called] = server.called
    assert (called.path, called.body) == ("/hook?token=a%20b", b"body")
    assert called.headers["host"] == f"127.0.0.1:{server.port}"
    assert called.headers["user-agent"] == "django-outbox-inbox"


def test_over_tls_the_name_is_checked_and_the_address_is_what_was_vetted(
    secure: CallbackServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is looked up once; its certificate is asked for by name."""
    asked = resolve(monkeypatch, "127.0.0.1", METADATA)
    url = f"https://hooks.example:{secure.port}/hook"

    answer = call(url, ca_file=authority.file, subnets=LOOPBACK)

    assert answer == Answer(CONFIRMED)
    assert asked == ["hooks.example"]
    assert secure.called[0].headers["host"] == f"hooks.example:{secure.port}"


@pytest.mark.parametrize("trusted", [True, False])
def test_a_certificate_that_is_wrong_or_of_nobody_ends_it(
    secure: CallbackServer,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    trusted: bool,
) -> None:
    """Another name, or an authority that nobody knows: nothing was sent."""
    resolve(monkeypatch, "127.0.0.1")
    host = "other.example" if trusted else "hooks.example"
    ca_file = authority.file if trusted else ""

    answer = call(f"https://{host}:{secure.port}/?token=x", ca_file=ca_file, subnets=LOOPBACK)

    assert answer.outcome.status is Status.REFUSED
    assert "its certificate is not trusted" in answer.outcome.reason
    assert answer.away
    assert secure.called == []


HOSTILE = {
    "loopback": "127.0.0.1",
    "localhost": "localhost",
    "all of loopback": "127.1.2.3",
    "this host": "0.0.0.0",
    "IPv4-mapped": "[::ffff:127.0.0.1]",
    "IPv4-mapped, hexadecimal": "[::ffff:7f00:1]",
    "IPv4-compatible": "[::127.0.0.1]",
    "NAT64": "[64:ff9b::7f00:1]",
    "6to4": "[2002:7f00:1::]",
    "Teredo": "[2001:0:7f00:1::]",
    "IPv6 loopback": "[::1]",
    "IPv6 unspecified": "[::]",
    "IPv6 zone": "[fe80::1%25lo]",
    "hexadecimal": "0x7f.1",
    "decimal": "2130706433",
    "octal": "0177.0.0.1",
    "short": "127.1",
    "user info": "example.com@127.0.0.1",
    "wide characters": "１２７.０.０.１",  # noqa: RUF001
    "full stops of another script": "127。0。0。1",
    "circled letters": "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "a dot at the end": "127.0.0.1.",
    "metadata": METADATA,
    "metadata, IPv4-mapped": f"[::ffff:{METADATA}]",
    "metadata, decimal": "2852039166",
    "metadata in IPv6": "[fd00:ec2::254]",
    "private": "10.0.0.1",
    "carrier": "100.64.0.1",
    "multicast": "224.0.0.1",
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_host_is_never_connected_to(
    server: CallbackServer, connected: list[Any], host: str, scheme: str
) -> None:
    """Even where a URL was not looked at before; the server would see each connection."""
    answer = call(f"{scheme}://{host}:{server.port}/hook")

    assert answer.outcome.status is Status.REFUSED
    assert connected == []
    assert server.connections == 0


def test_a_name_that_is_private_is_refused_in_words(
    server: CallbackServer, connected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, "127.0.0.1")

    answer = call(f"http://hooks.example:{server.port}/?token=x")

    assert answer.outcome.reason == "its host has the address 127.0.0.1, which must not be called"
    assert not answer.away
    assert connected == []


@pytest.mark.parametrize("subnets", [[], LOOPBACK])
def test_a_name_that_resolves_to_something_else_the_second_time_gains_nothing(
    server: CallbackServer,
    connected: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    subnets: list[Subnet],
) -> None:
    """DNS rebinding: what was vetted is what is connected to, or nothing is."""
    first, then = ("127.0.0.1", METADATA) if subnets else (METADATA, "127.0.0.1")
    resolve(monkeypatch, first, then, then)

    answer = call(f"http://hooks.example:{server.port}/", subnets=subnets)

    if subnets:
        assert answer.outcome == CONFIRMED
        assert [address[0] for address in connected] == ["127.0.0.1"]
    else:
        assert METADATA in answer.outcome.reason
        assert connected == []


def test_a_public_name_that_is_rebound_is_connected_to_as_it_was_vetted(
    connected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not be reached from here; nothing else is tried."""
    resolve(monkeypatch, "93.184.216.34", "127.0.0.1", "127.0.0.1")

    call("http://hooks.example:9/", timeout=0.2)

    assert {address[0] for address in connected} <= {"93.184.216.34"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:{}/", f"http://{METADATA}/", "/other", "http://["]
)
def test_a_redirect_is_not_followed(
    server: CallbackServer, connected: list[Any], status: int, target: str
) -> None:
    """Neither to where it could not be called, nor to where it could."""
    with CallbackServer() as second:
        location = target.format(second.port)
        server.answers["/hook"] = Answering(status, {"Location": location}, b"x" * 100)

        answer = call(f"{server.origin}/hook", subnets=LOOPBACK)

        assert second.connections == 0
    assert answer.outcome.status is Status.REFUSED
    assert "redirects are not followed" in answer.outcome.reason
    assert len(server.called) == len(connected) == 1


def test_proxies_and_passwords_of_the_environment_are_left_alone(
    server: CallbackServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with CallbackServer() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.origin)
        netrc = tmp_path / "netrc"
        netrc.write_text("default login me password secret")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))

        assert call(f"{server.origin}/hook", subnets=LOOPBACK).outcome == CONFIRMED

        assert proxy.connections == 0
    assert "authorization" not in server.called[0].headers


@pytest.mark.parametrize("status", [200, 302])
def test_an_endless_body_is_not_read(server: CallbackServer, status: int) -> None:
    """The status decides; to read what comes behind it, it would take longer than the deadline."""
    over = threading.Event()
    headers = {"Content-Length": str(10**12), "Location": "/other"}
    server.answers["/hook"] = Answering(status, headers, b"x" * 10_000, after=over.wait)

    answer = call(f"{server.origin}/hook", timeout=2, subnets=LOOPBACK)

    over.set()
    assert not answer.away


def test_an_answer_that_drips_is_over_at_the_deadline() -> None:
    """Each byte comes in time, and all of it never does."""
    with Dripping() as server:
        answer = call(f"{server.origin}/hook?token=x", timeout=0.4, subnets=LOOPBACK)

    assert answer.away
    assert answer.outcome.reason == "the receiver cannot be reached: no answer within 0.4 s"


@pytest.mark.parametrize("tls", [True, False])
def test_a_receiver_that_hardly_reads_is_left_at_the_deadline(
    authority: Authority, tls: bool
) -> None:
    """Of a large body each piece is taken in time, and all of it never is."""
    certificate = authority.issue("IP:127.0.0.1") if tls else None
    ca_file = str(authority.file) if tls else ""
    with Sipping(certificate) as server:
        url = f"{server.origin}/hook?token=x"
        answer = post(url, bytes(64_000_000), {}, timeout=1.0, ca_file=ca_file, subnets=LOOPBACK)

    assert answer.away
    assert answer.outcome.reason == "the receiver cannot be reached: no answer within 1 s"
    assert server.taken < 48_000_000


@pytest.mark.parametrize(
    ("count", "length"), [(90, 60_000), (1, 60_000), (90, 400)], ids=["all", "one", "many"]
)
def test_headers_are_bounded(server: CallbackServer, count: int, length: int) -> None:
    """No more than 32 KiB is read of them, in many lines or in one."""
    server.answers["/hook"] = Answering(200, {f"X-{n}": "x" * length for n in range(count)})

    answer = call(f"{server.origin}/hook?token=secret", subnets=LOOPBACK)

    assert answer.outcome.status is Status.REFUSED
    assert answer.outcome.reason.endswith("its headers are larger than 32 KiB")


def test_headers_that_are_just_large_are_read(server: CallbackServer) -> None:
    server.answers["/hook"] = Answering(200, {f"X-{n}": "x" * 390 for n in range(70)})

    assert call(f"{server.origin}/hook", subnets=LOOPBACK).outcome == CONFIRMED


def test_who_does_not_listen_is_away(server: CallbackServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

    answer = call(f"http://127.0.0.1:{port}/hook?token=secret", subnets=LOOPBACK)

    assert answer.away
    assert "refused" in answer.outcome.reason
    assert "secret" not in answer.outcome.reason

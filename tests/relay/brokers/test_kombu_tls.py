"""Redis over TLS: who is trusted with the password and with tasks."""

import shutil
import socket
import ssl
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from outbox.exceptions import ConfigurationError
from outbox.message import celery_task
from outbox.message.celery_task import CONTENT_TYPE, TaskMessage
from outbox.message.envelope import Envelope
from relay.brokers.base import CONFIRMED, Outcome, Status
from relay.brokers.kombu import KombuBroker
from tests.kit.services.leash import Leashed
from tests.kit.services.tls import Authority, in_the_middle

RIGHT, WRONG = "localhost", "127.0.0.1"
"""The host in the server's certificate, and another name of it."""


@dataclass
class Server:
    """A Redis of our own, with the password "hunter2" and a certificate for "localhost"."""

    port: int
    tls_port: int
    link: redis.Redis


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no redis-server")
    directory = tmp_path_factory.mktemp("redis")
    sockets = [socket.create_server((WRONG, 0)) for _ in range(2)]
    port, tls_port = (each.getsockname()[1] for each in sockets)
    for each in sockets:
        each.close()
    certificate = authority.issue("DNS:localhost")
    settings = {
        "bind": WRONG,
        "port": port,
        "tls-port": tls_port,
        "tls-cert-file": certificate.file,
        "tls-key-file": certificate.key,
        "tls-ca-cert-file": certificate.authority,
        "tls-auth-clients": "no",
        "requirepass": "hunter2",
        "save": "",
        "dir": directory,
    }
    file = directory / "redis.conf"
    file.write_text("".join(f'{name} "{value}"\n' for name, value in settings.items()))
    running = Leashed([program, str(file)], env={}, log=directory / "log")
    link = redis.Redis(host=WRONG, port=port, password="hunter2")
    try:
        _await(running, link, directory / "log")
        yield Server(port, tls_port, link)
    finally:
        link.close()
        running.kill()


def _await(running: Leashed, link: redis.Redis, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            link.ping()
            return
        except redis.ConnectionError:
            if not running.is_running() or time.monotonic() > deadline:
                pytest.skip(f"Redis does not start, perhaps without TLS: {log.read_text()[-500:]}")
            time.sleep(0.05)


def task(queue: str) -> Envelope:
    message_id = str(uuid.uuid4())
    message = TaskMessage(
        exchange="",
        routing_key=queue,
        headers={"task": "unit.add", celery_task.MESSAGE_ID: message_id},
        properties={"content_type": "application/json", "delivery_mode": 2},
        body="[]",
    )
    return Envelope(
        id=message_id,
        source="/t",
        type=celery_task.TASK_TYPE,
        topic="unit.add",
        key="t1",
        data=celery_task.encode(message),
        content_type=CONTENT_TYPE,
    )


def publish(url: str, **options: Any) -> Outcome:
    broker = KombuBroker.from_settings(url, options, using="default")
    try:
        [outcome] = broker.publish([task(f"queue-{uuid.uuid4()}")])
    finally:
        broker.close()
    assert "hunter2" not in outcome.reason + broker.address
    return outcome


def refused(url: str, **options: Any) -> str:
    outcome = publish(url, **options)
    assert outcome.status is Status.UNKNOWN
    return outcome.reason


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authority is one of the system's."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))


@pytest.mark.parametrize("scheme", ["rediss", "REDISS"])
@pytest.mark.usefixtures("trusted")
def test_by_default_the_certificate_and_its_name_are_checked(server: Server, scheme: str) -> None:
    """kombu by itself would trust anybody."""
    right, wrong = (f"{scheme}://:hunter2@{host}:{server.tls_port}/0" for host in (RIGHT, WRONG))

    assert publish(right) == CONFIRMED
    assert "IP address mismatch" in refused(wrong)
    assert "IP address mismatch" in refused(f"{wrong}?ssl_cert_reqs=CERT_REQUIRED")
    assert "IP address mismatch" in refused(wrong, SSL={"ssl_cert_reqs": "required"})
    assert "IP address mismatch" in refused(wrong, SSL={})


def test_an_authority_that_nobody_knows_is_refused(server: Server, authority: Authority) -> None:
    """Unless it is named, in the settings or in the URL; then the name still counts."""
    right, wrong = (f"rediss://:hunter2@{host}:{server.tls_port}/0" for host in (RIGHT, WRONG))
    known = {"ssl_ca_certs": str(authority.file)}

    assert "certificate verify failed" in refused(right)
    assert publish(right, SSL=known) == CONFIRMED
    assert publish(f"{right}?ssl_ca_certs={authority.file}") == CONFIRMED
    assert publish(right.replace("rediss", "redis"), SSL=known) == CONFIRMED
    assert "IP address mismatch" in refused(wrong, SSL=known)


def test_whoever_does_not_want_that_says_so(server: Server, authority: Authority) -> None:
    """In the settings, or in the URL as redis-py and kombu have it."""
    wrong = f"rediss://:hunter2@{WRONG}:{server.tls_port}/0"
    known = {"ssl_ca_certs": str(authority.file)}

    assert publish(wrong, SSL={**known, "ssl_check_hostname": False}) == CONFIRMED
    assert publish(wrong, SSL={"ssl_cert_reqs": ssl.CERT_NONE}) == CONFIRMED
    assert publish(f"{wrong}?ssl_cert_reqs=none") == CONFIRMED
    assert publish(f"{wrong}?ssl_check_hostname=false", SSL=known) == CONFIRMED


@pytest.mark.usefixtures("trusted")
def test_each_server_of_a_list_is_tried_with_what_its_url_says(server: Server) -> None:
    """Host name, port and encryption are its own; the first one is away."""
    right, wrong = (f"rediss://:hunter2@{host}:{server.tls_port}/0" for host in (RIGHT, WRONG))
    plain = f"redis://:hunter2@{WRONG}:{server.port}/0"

    assert publish(f"rediss://{WRONG}:1/0;{right}") == CONFIRMED
    assert publish(f"redis://{WRONG}:1/0;{right}") == CONFIRMED
    assert publish(f"{wrong};{plain}") == CONFIRMED
    assert "mismatch" in refused(f"rediss://{RIGHT}:1/0;{wrong}")


@pytest.mark.usefixtures("trusted")
def test_nothing_is_said_to_somebody_in_the_middle(server: Server, authority: Authority) -> None:
    """With a certificate that is trusted, for another name."""
    with in_the_middle(server.port, authority.issue("DNS:evil.example")) as middle:
        assert "mismatch" in refused(f"rediss://:hunter2@localhost:{middle.port}/0")
        assert middle.seen.wait(10)

    assert middle.failures != []
    assert middle.said == b""


@pytest.mark.parametrize(
    ("url", "tls"),
    [
        ("rediss://h", {"ca_certs": "x"}),
        ("rediss://h?ssl_nope=1", None),
        ("rediss://h", {"ssl_cert_reqs": "perhaps"}),
        ("rediss://h?ssl_cert_reqs=", None),
        ("rediss://h", True),
    ],
    ids=str,
)
def test_options_that_cannot_be_used_are_refused(url: str, tls: Any) -> None:
    """By the check, before redis-py would end the relay with a TypeError."""
    options = {} if tls is None else {"SSL": tls}
    with pytest.raises(ConfigurationError, match=r"SSL|ssl_cert_reqs"):
        KombuBroker.from_settings(url, options, using="default")
    assert [each.id for each in KombuBroker.check("x", url, options)] == ["relay.E002"]

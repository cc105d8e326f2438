"""Encrypted connections to brokers: who is trusted, and with what."""

import json
import ssl
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from amqp.exceptions import AMQPError
from celery import Celery
from kombu import Connection

from outbox.amqp import connection as amqp
from outbox.amqp import tls
from outbox.exceptions import AccessDenied, ConfigurationError
from outbox.message.envelope import Envelope
from relay.brokers.amqp.broker import AMQPBroker
from relay.brokers.base import CONFIRMED, Status
from tests.kit.processes import Worker, run
from tests.kit.services import broker
from tests.kit.services.rabbitmq import RabbitNode
from tests.kit.services.tls import Authority, in_the_middle

RIGHT, WRONG = "localhost", "127.0.0.1"
"""The host in the node's certificate, and another name of it."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def node(authority: Authority) -> Iterator[RabbitNode]:
    """A RabbitMQ with a certificate for "localhost"."""
    made = broker.start_private_node(authority.issue("DNS:localhost"))
    yield made
    made.close()


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authority is one of the system's."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))


def open_and_close(url: str, **options: Any) -> bool:
    """Connect; return whether the connection is encrypted."""
    connection = amqp.connect(
        url, name="test", connect_timeout=10, socket_timeout=10, heartbeat=0, **options
    )
    encrypted = isinstance(connection.connection.transport.sock, ssl.SSLSocket)
    amqp.drop(connection)
    return encrypted


def refused(url: str, **options: Any) -> str:
    """Return what is told of a broker that is not connected to."""
    with pytest.raises((AMQPError, OSError)) as caught:
        open_and_close(url, **options)
    return amqp.refusal(caught.value)


class TestNode:
    """A real broker."""

    @pytest.mark.parametrize("scheme", ["amqps", "AMQPS", "AmqpS"])
    @pytest.mark.usefixtures("trusted")
    def test_the_right_name_from_an_authority_of_the_system_is_trusted(
        self, node: RabbitNode, scheme: str
    ) -> None:
        """By default, however the scheme is written; it is never plain."""
        assert open_and_close(f"{scheme}://guest:guest@{RIGHT}:{node.tls_port}//")

    @pytest.mark.parametrize("scheme", ["amqps", "AMQPS"])
    @pytest.mark.usefixtures("trusted")
    def test_the_wrong_name_is_refused(self, node: RabbitNode, scheme: str) -> None:
        """In words, with what to do."""
        said = refused(f"{scheme}://guest:guest@{WRONG}:{node.tls_port}//")

        assert "its certificate is not trusted, and nothing was sent to it" in said
        assert "IP address mismatch" in said
        assert "SSL['ca_certs']" in said

    def test_an_authority_that_nobody_knows_is_refused(self, node: RabbitNode) -> None:
        assert "certificate is not trusted" in refused(
            f"amqps://guest:guest@{RIGHT}:{node.tls_port}//"
        )

    @pytest.mark.parametrize("scheme", ["amqp", "amqps"])
    def test_an_authority_of_our_own(
        self, node: RabbitNode, authority: Authority, scheme: str
    ) -> None:
        """`ca_certs` says who is to be trusted, not that any name will do."""
        options = {"ca_certs": str(authority.file)}

        assert open_and_close(f"{scheme}://{RIGHT}:{node.tls_port}//", ssl=options)
        assert "IP address mismatch" in refused(f"{scheme}://{WRONG}:{node.tls_port}", ssl=options)

    @pytest.mark.usefixtures("trusted")
    def test_options_that_say_nothing_leave_it_encrypted_and_checked(
        self, node: RabbitNode
    ) -> None:
        """An empty dict was plain once."""
        empty: list[dict[str, Any]] = [{}, {"check_hostname": None, "cert_reqs": None}]
        for options in empty:
            for scheme in ("amqp", "amqps"):
                assert open_and_close(f"{scheme}://{RIGHT}:{node.tls_port}", ssl=options)
                assert refused(f"{scheme}://{WRONG}:{node.tls_port}", ssl=options)

    def test_whoever_does_not_want_that_says_so(
        self, node: RabbitNode, authority: Authority
    ) -> None:
        """The name alone, or everything."""
        url = f"amqps://{WRONG}:{node.tls_port}//"
        known = {"ca_certs": str(authority.file)}

        assert open_and_close(url, ssl={**known, "check_hostname": False})
        assert open_and_close(url, ssl={**known, "server_hostname": RIGHT})
        assert open_and_close(url, ssl={"cert_reqs": ssl.CERT_NONE})
        assert "not trusted" in refused(url, ssl={"check_hostname": False})

    def test_each_server_of_a_list_has_its_own_name(
        self, node: RabbitNode, authority: Authority, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Also if one before it is away, or is not the one it should be, or has another port."""
        options = {"ca_certs": str(authority.file)}
        certificate = authority.issue(f"IP:{WRONG}")
        with in_the_middle(node.port, certificate) as other:
            right, wrong = f"amqps://{RIGHT}:{node.tls_port}", f"amqps://{WRONG}:{other.port}"
            for first in ("amqps://localhost:1/nowhere", f"amqps://{RIGHT}:{other.port}"):
                assert open_and_close(f"{first};{wrong}", ssl=options)
            assert open_and_close(f"amqps://{WRONG}:{node.tls_port};{right}", ssl=options)
            impostor = f"amqps://{RIGHT}:{other.port}"
            assert "mismatch" in refused(f"amqps://{WRONG}:1;{impostor}", ssl=options)

        assert "Not connected to amqps://localhost:" in caplog.text

    @pytest.mark.usefixtures("trusted")
    def test_each_server_of_a_list_is_as_encrypted_as_it_says(self, node: RabbitNode) -> None:
        """One that is away does not decide for the next."""
        plain, encrypted = f"amqp://{WRONG}:{node.port}", f"amqps://{RIGHT}:{node.tls_port}"

        assert open_and_close(f"amqp://{WRONG}:1;{encrypted}")
        assert not open_and_close(f"amqps://{RIGHT}:1;{plain}")

    def test_a_file_that_cannot_be_used_is_named(self, node: RabbitNode, tmp_path: Path) -> None:
        """Which one, and why: Python's error says neither."""
        url, empty = f"amqps://{RIGHT}:{node.tls_port}", tmp_path / "empty.pem"
        empty.touch()

        assert "No such file" in refused(url, ssl={"ca_certs": "/nowhere.pem"})
        for name in ("ca_certs", "certfile"):
            assert f"SSL['{name}'], {empty}" in refused(url, ssl={name: str(empty)})

    def test_what_the_check_advises_for_celery_itself_works(
        self, node: RabbitNode, authority: Authority
    ) -> None:
        """Its own connections check the host with server_hostname: None."""
        advised = {"server_hostname": None, "ca_certs": str(authority.file)}
        names = {f"IP:{WRONG}": "", "DNS:evil.example": "IP address mismatch"}
        for name, told in names.items():
            with in_the_middle(node.port, authority.issue(name)) as middle:
                app = Celery(
                    "unit", broker=f"amqps://{WRONG}:{middle.port}//", set_as_current=False
                )
                app.conf.broker_use_ssl = dict(advised)
                expected = pytest.raises(OSError, match=told) if told else nullcontext()
                with app.connection_for_write() as connection, expected:
                    connection.transport.establish_connection().close()
                assert bool(middle.said) is not bool(told)
                app.close()


class TestMiddle:
    """Somebody else answers, with a certificate that is trusted, for another name."""

    @pytest.mark.parametrize("scheme", ["amqps", "AMQPS"])
    @pytest.mark.parametrize("own", [True, False], ids=["ca_certs", "system"])
    def test_no_credentials_leave(
        self,
        authority: Authority,
        broker_port: int,
        scheme: str,
        own: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        options = {"ca_certs": str(authority.file)} if own else None
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        with in_the_middle(broker_port, authority.issue("DNS:evil.example")) as middle:
            assert "not trusted" in refused(
                f"{scheme}://ann:hunter2@localhost:{middle.port}//", ssl=options
            )
            assert middle.seen.wait(10)

        assert middle.said == b""
        assert middle.failures != []

    def test_a_relay_waits_until_it_is_the_right_one(
        self, authority: Authority, broker_url: str, broker_port: int
    ) -> None:
        """As with a wrong password: told as a refusal, tried again, nothing lost."""
        [server] = amqp.read(broker_url)
        name = f"tls-{uuid.uuid4()}"
        options = {"EXCHANGE": name, "MANDATORY": False, "SSL": {"ca_certs": str(authority.file)}}
        page = [Envelope(id="1", source="/t", type="t", topic="t", key="k", data=b"{}")]
        with in_the_middle(broker_port, authority.issue("DNS:evil.example")) as middle:
            url = f"amqps://{server.user}:{server.password}@localhost:{middle.port}//"
            relay = AMQPBroker.from_settings(url, options, using="default")
            with pytest.raises(AccessDenied, match="its certificate is not trusted"):
                relay.open()
            [outcome] = relay.publish(page)
            assert (outcome.status, relay.denied) == (Status.UNKNOWN, True)
            assert middle.said == b""

            middle.certificate = authority.issue("DNS:localhost")
            [outcome] = relay.publish(page)
            assert (outcome, relay.denied) == (CONFIRMED, False)
            relay.close()
        with Connection(broker_url) as link:
            link.channel().exchange_delete(name)

    @pytest.mark.slow
    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("command", ["relay", "consume", "doctor", "step"])
    def test_no_process_gives_them_away(
        self,
        authority: Authority,
        broker_url: str,
        broker_port: int,
        database_url: str,
        tmp_path: Path,
        command: str,
    ) -> None:
        """Relay, consumer, doctor, and the step in a Celery worker."""
        with in_the_middle(broker_port, authority.issue("DNS:evil.example")) as middle:
            url = f"AMQPS://ann:hunter2@localhost:{middle.port}//"
            environment = {
                "DATABASE_URL": database_url,
                "BROKER_URL": broker_url if command == "step" else url,
                "SSL_CERT_FILE": str(authority.file),
                "TEST_GROUP": "tls",
                "TEST_INBOX": json.dumps({"URL": url}),
            }
            if command == "step":
                more = {"TEST_STEP": "tls", "TEST_RESULTS": str(tmp_path), "TEST_TASKS": "tls"}
                with Worker(**environment, **more) as worker:
                    worker.wait_for(lambda: "has ended with exit code 1" in worker.output)
                    output = worker.output
            else:
                arguments = {"consume": ("--group", "tls")}.get(command, ())
                code, output = run(command, *arguments, **environment)
                assert code != 0

        assert "certificate is not trusted" in output
        assert "hunter2" not in output
        assert middle.failures != []
        assert middle.said == b""


@pytest.fixture
def broker_port(broker_url: str) -> int:
    [server] = amqp.read(broker_url)
    return server.port or 5672


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"context": {}}, "unknown keys: context"),
        (True, "must be a dict"),
        ({"cert_reqs": "none"}, "CERT_NONE to trust any server"),
        ({"check_hostname": "no"}, "True or False"),
        ({"check_hostname": True, "cert_reqs": ssl.CERT_NONE}, "means nothing"),
        ({"ca_certs": 1}, "must be a string"),
        ({"ciphers": "nonsense"}, "cannot be used"),
        ({"tls_minimum_version": 1}, "cannot be used"),
        ({"ssl_version": 99}, "cannot be used"),
    ],
    ids=str,
)
def test_options_that_cannot_be_used_are_refused(options: Any, told: str) -> None:
    """Before anything connects."""
    with pytest.raises(ConfigurationError, match=told):
        tls.read(options)

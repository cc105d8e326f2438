"""URLs of brokers: what is read, what is refused, and that no secret of them is ever told."""

import json
import re
import traceback
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from celery import Celery
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from inbox.conf import inbox_settings
from inbox.findings.queues import queues
from outbox.amqp import connection as amqp
from outbox.amqp import urls
from outbox.amqp.urls import ServerURL
from outbox.celery import apps_in_use
from outbox.exceptions import ConfigurationError
from project import database_url
from relay.brokers.amqp.broker import AMQPBroker
from relay.brokers.base import Broker
from relay.brokers.kombu import KombuBroker
from relay.conf import relay_settings
from tests.kit.processes import run

AMQP = "relay.brokers.amqp.AMQPBroker"
KOMBU = "relay.brokers.kombu.KombuBroker"


@pytest.mark.parametrize(
    ("url", "expected", "address"),
    [
        (
            "amqps://ann:p%40ss%2Fw@rabbit.example:5671/shop%2Fa",
            {"user": "ann", "password": "p@ss/w", "path": "shop/a", "port": 5671},
            "amqps://rabbit.example:5671/shop/a",
        ),
        ("amqp://h//", {"host": "h", "path": "/"}, "amqp://h:5672//"),
        ("AMQPS://H", {"scheme": "amqps", "host": "h", "path": ""}, "amqps://h:5671"),
        ("amqp://a@b:c@d@h", {"user": "a@b", "password": "c@d", "host": "h"}, "amqp://h:5672"),
        ("amqp://[::1]:1234/v", {"host": "::1", "port": 1234}, "amqp://[::1]:1234/v"),
        ("amqp://[fe80::1%25eth0]", {"host": "fe80::1%eth0"}, "amqp://[fe80::1%eth0]:5672"),
        ("amqp://my_host-1.internal:", {"port": None}, "amqp://my_host-1.internal:5672"),
        ("amqp://münchen.example", {"host": "münchen.example"}, "amqp://münchen.example:5672"),
        ("amqp://u:p%20%C3%A9w@h", {"password": "p éw"}, "amqp://h:5672"),
        (
            "amqp://h?login_method=EXTERNAL",
            {"query": {"login_method": "EXTERNAL"}},
            "amqp://h:5672",
        ),
    ],
)
def test_a_url_is_read_part_by_part(url: str, expected: dict[str, Any], address: str) -> None:
    """Decoded, and shown with its port and without credentials."""
    [found] = amqp.read(url)

    assert {name: getattr(found, name) for name in expected} == expected
    assert amqp.address(url) == address


WHITE = " \n\r\t\v\f\x00\x1f\x7f\u00a0\u2028\u200b\ufeff"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        *[
            (form.format(white=white), "white space")
            for white in WHITE
            for form in (
                "{white}amqp://ann:hunter2@h//",
                "amqp://ann:hunter2@h//{white}",
                "amqp://ann:hun{white}ter2@h//",
                "amqp://ann:hunter2@h{white}x//",
            )
        ],
        ("amqp://ann:hunter2@h//; amqp://ann:hunter2@i//", "URL 2 of 2 has white space"),
        ("amqp://ann:hunter2@h// ;amqp://ann:hunter2@i//", "URL 1 of 2 has white space"),
        ("amqp://ann:hunter2@h//;", "URL 2 of 2 is empty"),
        ("amqp://ann:hun;ter2@h//", "port"),
        ("amqp://h//;ann:hunter2@h", "URL 2 of 2 does not begin with a scheme"),
        ("amqp://ann:hun%ter2@h//", "without two hexadecimal digits"),
        ("amqp://ann:hunter2%@h//", "without two hexadecimal digits"),
        ("amqp://ann:hunter2%FF@h//", "UTF-8"),
        ("amqp://ann:hunter2%00@h//", "control character"),
        ("amqp://ann:hunter2%0A@h//", "line break"),
        ("amqp://ann:hun/ter2@h//", "percent-encoded"),
        ("amqp://ann:hun?ter2@h//", "percent-encoded"),
        ("amqp://ann:hun#ter2@h//", "percent-encoded"),
        ("amqp://ann:12/hunter2@h//", "percent-encoded"),
        ("amqp://ann:12?hunter2@h//", "percent-encoded"),
        ("amqp://ann:hunter2@h//#x", "percent-encoded"),
        ("amqp://ann:hunter2", "port"),
        ("amqp://ann:hunter2/v", "port"),
        ("amqp://ann:12?hunter2", "unknown option"),
        ("amqp://ann:hunter2@h?heartbeat=10", "unknown option"),
        ("amqp://ann:hunter2@h?password=hunter2", "unknown option"),
        ("amqp://ann:hunter2@h?ssl=1", "unknown option"),
        ("amqp://ann:hunter2@h?login_method=hunter2", "login_method"),
        *[
            (f"amqp://ann:hunter2@h:{port}//", "port")
            for port in ("0", "65536", "99999999", "-1", "+1", "x", "0x10", "\uff11\uff12")
        ],
        ("amqp://ann:hunter2@", "no host"),
        ("amqp://ann:hunter2@/v", "no host"),
        ("amqp://ann:hunter2@::1//", "cannot be read"),
        ("amqp://ann:hunter2@fe80::1//", "cannot be read"),
        ("amqp://ann:hunter2@[::1//", "cannot be read"),
        ("amqp://ann:hunter2@[zz]//", "host"),
        ("amqp://ann:hunter2@[127.0.0.1]//", "host"),
        ("amqp://ann:hunter2@a..b//", "host"),
        (f"amqp://ann:hunter2@{'a' * 64}//", "host"),
        ("amqp://ann:hunter2@h,i//", "host"),
        ("amqp://ann:hunter2@h*//", "host"),
        ("ampq://ann:hunter2@h//", "no AMQP broker"),
        ("redis://ann:hunter2@h", "no AMQP broker"),
        ("ann:hunter2@h", "scheme"),
        ("//ann:hunter2@h", "scheme"),
        ("hunter2", "scheme"),
    ],
)
def test_what_cannot_be_read_for_certain_is_an_error_of_the_check(url: str, told: str) -> None:
    """It says what is wrong and shows nothing of it, wherever the URL is; nothing is guessed."""
    with pytest.raises(ConfigurationError, match=told) as caught:
        amqp.read(url)
    said = [everything(caught.value), amqp.address(url), urls.shown(url)]
    relays = {"default": {"BACKEND": AMQP, "URL": url}}
    for change in ({"RELAYS": relays, "INBOX": {}}, {"RELAYS": {}, "INBOX": {"URL": url}}):
        with override_settings(**change):
            found = [each for each in run_checks() if each.is_serious()]
            assert [each.id for each in found] == [
                "relay.E002" if change["RELAYS"] else "inbox.E001"
            ]
            said += map(str, found)

    for each in said:
        assert "hunter2" not in each
        assert "ter2" not in each


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://:hunter2@h/0; redis://:hunter2@i/0", "white space"),
        ("redis://:hunter2@h/0;memory://", "memory"),
        ("redis://:hunter2@h/0;amqp://h", "AMQPBroker"),
        ("redis://:hunter2@h/0;sqs://", "one transport"),
        ("redis://:hunter2@h/hunter2", "number of a database"),
        ("redis://:hunter2@h/0?nope=hunter2", "unknown options"),
        ("redis://:hunter2@h:port/0", "port"),
        ("redis+socket://:hunter2@/tmp/x?nope=hunter2", "unknown option"),
        ("sentinel://:hunter2@h?nope=hunter2", "TypeError"),
    ],
)
def test_so_it_is_with_other_brokers(url: str, told: str) -> None:
    """Each URL of a list counts: a transport that loses messages is refused as the second too."""
    with pytest.raises(ConfigurationError, match=told) as caught:
        KombuBroker.from_settings(url, {}, using="default")
    assert "hunter2" not in everything(caught.value) + str(KombuBroker.check("x", url, {}))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", "redis://"),
        ("REDIS://:hunter2@h:1/3", "redis://h:1/3"),
        ("redis://ann:hunter2@[::1]/0", "redis://[::1]/0"),
        (
            "redis+socket://:hunter2@/run/redis.sock?virtual_host=3",
            "redis+socket:///run/redis.sock",
        ),
        ("SENTINEL://:hunter2@h:1;SENTINEL://:hunter2@i:1", "sentinel://h:1;sentinel://i:1"),
    ],
)
def test_what_others_understand_is_taken(url: str, address: str) -> None:
    """In capitals as well, and shown without what is secret."""
    assert KombuBroker.from_settings(url, {}, using="default").address == address


def everything(exc: BaseException) -> str:
    """Return what a traceback shows of an exception and of those that it came from."""
    shown = []
    for each in traceback.TracebackException.from_exception(exc).format():
        # Not the lines of this project's own source, which a test's literals are in.
        shown.append(re.sub(r"(?m)^ +File .*\n(    .*\n)*", "", each))
    chain, seen = exc, set[int]()
    while chain is not None and id(chain) not in seen:
        seen.add(id(chain))
        shown.append(f"{chain!r} {chain.args!r}")
        chain = chain.__cause__ or chain.__context__  # type: ignore[assignment]
    return "\n".join(shown)


# --- No secret is ever told ----------------------------------------------------------------

_begin, _end = "Zq7", "7qX"
"""What a password begins and ends with in these tests, and nothing else has."""

_passwords = st.text(max_size=8).map(lambda text: f"{_begin}{text}{_end}")
_white = st.sampled_from(["", "", "", " ", "\n", "\t", "\u00a0"])
_schemes = st.sampled_from(
    [
        *("amqp", "amqps", "AMQPS", "pyamqp", "redis", "rediss", "REDISS", "redis+socket"),
        *("sentinel", "sqs", "mongodb", "postgresql", "sqlite", "ampq", ""),
    ]
)
SHAPES = [
    "{scheme}://ann:{password}@{host}{path}{query}",
    "{scheme}://:{password}@{host}{path}{query}",
    "{scheme}://ann:{password}@{host}{path}?x={password}",
    "{scheme}://ann:{password}@{host}{path}?{password}",
    "{scheme}://ann:{password}@{host}{path}?login_method={password}",
    "{scheme}://ann:{password}@{host}{path}?ssl_cert_reqs={password}",
    "{scheme}://ann:{password}@{host}{path}?credential_provider={password}",
    "{scheme}://ann:12/{password}@{host}{path}",
    "{scheme}://ann:12?{password}@{host}{path}",
    "{scheme}://ann:12#{password}@{host}{path}",
    "{scheme}:ann:{password}@{host}{path}",
    "{scheme}://ann:{password}",
    "{scheme}://ann:{password}{path}{query}",
    "ann:{password}@{host}{path}",
]

_hosts = st.sampled_from(
    [
        "127.0.0.1:1",
        "[::1]:1",
        "::1",
        "h:99999",
        "h:x",
        "",
        "[zz]:1",
        "h h",
        "a..b",
        "h,i",
        "℀",
    ]
)
_paths = st.sampled_from(["", "/", "//", "/v", "/0", "/%zz", "/%ff", "/a b", "/a@b"])
_queries = st.sampled_from(["", "", "?heartbeat=1", "?ssl_cert_reqs=none", "#x", "?"])


@st.composite
def _urls(draw: st.DrawFn) -> str:
    password = draw(_passwords)
    parts = [
        draw(_white)
        + draw(st.sampled_from(SHAPES)).format(
            scheme=draw(_schemes),
            password=draw(st.sampled_from([password, quote(password, safe="")])),
            host=draw(_hosts),
            path=draw(_paths),
            query=draw(_queries),
        )
        + draw(_white)
        for _ in range(draw(st.integers(1, 2)))
    ]
    return ";".join(parts)


def _every_shape(test: Any) -> Any:
    """Let each shape be tried, with what is right but for that: chance would seldom do it."""
    right = {"password": f"{_begin}{_end}", "host": "127.0.0.1:1", "path": "/", "query": ""}
    for shape in SHAPES:
        for scheme in ("amqp", "rediss", "postgresql"):
            test = example(url=shape.format(scheme=scheme, **right))(test)
    return test


@pytest.fixture(scope="module")
def celery_app() -> Iterator[Celery]:
    app = Celery("unit", set_as_current=False)
    yield app
    app.close()


def told(url: str, app: Celery) -> Iterator[str]:
    """Yield everything that is told of a URL, wherever it is configured."""
    yield from (amqp.address(url), urls.shown(url), repr(_server(url)))
    for backend in (AMQP, KOMBU):
        relays = {"default": {"BACKEND": backend, "URL": url}}
        with override_settings(RELAYS=relays, INBOX={"URL": url}):
            for message in run_checks(include_deployment_checks=True):
                yield f"{message} {message.hint} {message.obj!r}"
            yield from (repr(relay_settings()), repr(inbox_settings()))
            yield from (repr(each) for each in queues())
    brokers: list[type[Broker]] = [AMQPBroker, KombuBroker]
    for kind in brokers:
        try:
            broker = kind.from_settings(url, {}, using="default")
        except ConfigurationError as exc:
            yield everything(exc)
        else:
            yield broker.address
            yield from (repr(each) for each in broker.examine("unit"))
    yield from _error(lambda: database_url.parse(url))
    yield from _error(lambda: amqp.connect(url, **TIMES))


TIMES: Any = {"name": "unit", "connect_timeout": 1, "socket_timeout": 1, "heartbeat": 0}


def _server(url: str) -> list[ServerURL] | None:
    try:
        return urls.read(url, options=None)
    except ConfigurationError:
        return None


def _error(call: Any) -> Iterator[str]:
    try:
        call()
    except (ConfigurationError, ImproperlyConfigured, OSError) as exc:
        yield everything(exc)


@pytest.mark.slow
@pytest.mark.django_db
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(url=_urls())
@_every_shape
@example(url=f"amqp://ann:{_begin}/{_end}@127.0.0.1:1//")
@example(url=f" amqp://ann:{_begin}{_end}@127.0.0.1:1//")
@example(url=f"amqp://ann:{_begin}\n{_end}@127.0.0.1:1//")
@example(url=f"amqp://ann:{_begin}℀{_end}@127.0.0.1:1//")
@example(url=f"postgresql://ann:{_begin}℀{_end}@127.0.0.1:1/x")
@example(url=f"postgresql://ann:{_begin}{_end}/x")
@example(url=f"amqp://ann:{_begin}{_end}@127.0.0.1:1//;redis://:{_begin}{_end}@127.0.0.1:1/0")
def test_no_part_of_a_password_is_told(
    celery_app: Celery, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """By checks, errors, addresses, the settings' repr and the doctor; of any shape of URL."""
    celery_app.conf.broker_url = url
    monkeypatch.setattr(apps_in_use, "apps", {celery_app})
    for said in told(url, celery_app):
        assert _begin.lower() not in said.lower(), said
        assert _end.lower() not in said.lower(), said


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("cannot reach amqp://ann:p%40ssw0rd@h//", "cannot reach amqp://***@h//"),
        ("login of ann with p@ssw0rd failed", "login of ann with *** failed"),
        ("redis://:other@i:1 is away", "redis://***@i:1 is away"),
        ("ann is refused at h:5672", "ann is refused at h:5672"),
    ],
)
def test_a_text_of_a_library_is_freed_of_passwords(text: str, scrubbed: str) -> None:
    """In whatever form they are; of other URLs as well."""
    assert urls.scrubbed(text, "amqp://bob:x@i;amqp://ann:p%40ssw0rd@h//") == scrubbed


def test_the_name_guest_is_no_secret() -> None:
    """A broker's words about a user stay readable."""
    said = "ACCESS_REFUSED - access to vhost '/' refused for user 'guest'"
    assert urls.scrubbed(said, "amqp://guest:guest@h") == said


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("command", ["check", "relay", "consume", "doctor", "relay_status"])
@pytest.mark.parametrize(
    "url",
    [
        " amqp://ann:hunter2@127.0.0.1:1//",
        "amqp://ann:hun\nter2@127.0.0.1:1//",
        "amqp://ann:hunter2@127.0.0.1:1//?nope=1",
        "amqp://ann:hunter2@127.0.0.1:1//; amqp://ann:hunter2@127.0.0.1:1//",
    ],
)
def test_no_command_guesses(database_url: str, command: str, url: str) -> None:
    """None connects anywhere, ends with a traceback, or shows what it was given."""
    environment = {"DATABASE_URL": database_url, "BROKER_URL": url, "TEST_GROUP": "tests"}
    code, output = run(command, **environment)

    assert code != 0, output
    assert "white space" in output or "unknown option" in output
    assert "Traceback" not in output
    for secret in ("hunter2", "ter2", "hun"):
        assert secret not in output


def test_settings_are_shown_without_urls() -> None:
    """A repr ends in logs and in reports of errors."""
    url = "amqp://ann:hunter2@h//"
    relays = {
        "default": {"BACKEND": KOMBU, "URL": url, "OPTIONS": {"TRANSPORT_OPTIONS": {"a": url}}}
    }
    with override_settings(RELAYS=relays, INBOX={"URL": url}):
        assert "hunter2" not in repr(relay_settings()) + repr(inbox_settings())
        assert json.dumps(url) not in repr(amqp.read(url))

"""The port of what else goes the way of a message, and the two carriers that there are."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction

import outbox
from outbox import context
from outbox.carriers import StructlogCarrier
from outbox.context import Carrier, given, register_carrier, taken
from outbox.exceptions import ConfigurationError
from outbox.message.envelope import Envelope
from outbox.models import Message
from tests.inbox.support import Handling, effects, happened, receive
from tests.kit.support import Counted

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

tenant: ContextVar[str] = ContextVar("tenant", default="")


class TenantCarrier(Carrier):
    """Carries a name."""

    name = "tenant"
    attributes = ("tenant", "other")

    def __init__(self, **fails: BaseException) -> None:
        self.fails = fails
        self.value: Any = None

    def _may(self, what: str) -> None:
        if what in self.fails:
            raise self.fails[what]

    def take(self) -> Mapping[str, str]:
        self._may("take")
        return {"tenant": self.value or tenant.get()} if self.value or tenant.get() else {}

    def give(self, values: Mapping[str, str]) -> AbstractContextManager[None]:
        self._may("give")
        return self._given(values)

    @contextmanager
    def _given(self, values: Mapping[str, str]) -> Iterator[None]:
        self._may("enter")
        token = tenant.set(values["tenant"])
        try:
            yield
        finally:
            tenant.reset(token)
            self._may("leave")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No carrier but those of the test."""
    monkeypatch.setattr(context, "_carriers", {})
    monkeypatch.setattr(context, "_told", set())


def emit() -> Envelope:
    with transaction.atomic():
        return outbox.emit(Counted("k", 1))


def from_elsewhere(**attributes: str) -> Envelope:
    return happened(attributes=attributes)


def test_it_goes_from_the_emitter_to_the_handler(handling: Handling, settings: Any) -> None:
    """Through the log and a relay; what the handler emits carries it on."""
    settings.RELAYS = {"default": {"BACKEND": "relay.brokers.local.LocalBroker"}}
    register_carrier(TenantCarrier())
    seen: list[str] = []

    def handle(event: Any, message: Envelope) -> None:
        seen.append(tenant.get())
        if len(seen) == 1:
            with transaction.atomic():
                outbox.emit(Counted("again", 1))

    handling(handle, pattern="tests.counted", name="seeing")
    token = tenant.set("acme")
    emit()
    tenant.reset(token)
    call_command("relay", "--until-empty", verbosity=0)

    assert seen == ["acme", "acme"]
    assert tenant.get() == ""
    assert [each.attributes["tenant"] for each in Message.objects.all()] == ["acme"] * 2


def test_what_the_caller_gives_comes_first() -> None:
    """He knows better."""
    register_carrier(carrier := TenantCarrier())
    carrier.value = "carried"
    with transaction.atomic():
        message = outbox.emit(Counted("k", 1), attributes={"tenant": "mine"})
    assert message.attributes == {"tenant": "mine"}


@pytest.mark.parametrize("raises", [ValueError("no"), SystemExit(3)])
@pytest.mark.parametrize("what", ["give", "enter", "leave"])
def test_one_that_fails_keeps_no_handler(
    handling: Handling, what: str, raises: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing else happens; it is logged, and not for each message."""
    register_carrier(TenantCarrier(**{what: raises}))
    handling()
    for _ in range(3):
        [result] = receive(from_elsewhere(tenant="acme"))
        assert result.handled == 1
    assert effects() == [1, 1, 1]
    assert caplog.text.count("Carrier 'tenant' has failed") == 1


@pytest.mark.parametrize("raises", [ValueError("no"), SystemExit(3)])
def test_one_that_fails_keeps_no_event(
    raises: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """It is emitted without."""
    register_carrier(TenantCarrier(take=raises))
    assert [emit().attributes for _ in range(3)] == [{}] * 3
    assert caplog.text.count("Carrier 'tenant' has failed") == 1


def test_a_handler_that_fails_has_failed() -> None:
    """No carrier can keep that back."""

    class Swallowing(TenantCarrier):
        @contextmanager
        def _given(self, values: Mapping[str, str]) -> Iterator[None]:
            with suppress(Exception):
                yield

    register_carrier(Swallowing())
    with pytest.raises(ValueError, match="mine"), given({"tenant": "acme"}):
        raise ValueError("mine")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("x" * 1025, "1,025 characters long"),
        ("a\nb", "U+000A"),
        (7, "is a int, not a string"),
    ],
)
def test_what_no_message_can_carry_is_left_out(
    value: Any, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And the event is emitted."""
    register_carrier(carrier := TenantCarrier())
    carrier.value = value
    assert emit().attributes == emit().attributes == {}
    assert caplog.text.count(problem) == 1


def test_what_was_not_declared_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """The attributes are a list of what may leave."""

    class More(TenantCarrier):
        def take(self) -> Mapping[str, str]:
            return {"tenant": "acme", "secret": "x"}

    register_carrier(More())
    assert taken() == {"tenant": "acme"}
    assert "secret is none of its attributes" in caplog.text


def test_what_comes_too_large_is_not_given() -> None:
    """Others may send what they like."""
    register_carrier(TenantCarrier())
    with given({"tenant": "x" * 1025, "more": "y"}):
        assert tenant.get() == ""


@pytest.mark.parametrize("attribute", ["Tenant", "a_b", "x" * 21, "time", "traceparent"])
def test_names_that_no_attribute_can_have(attribute: str) -> None:
    """Are refused when the carrier is registered."""
    carrier = TenantCarrier()
    carrier.attributes = (attribute,)
    with pytest.raises(ConfigurationError, match="cannot be an attribute"):
        register_carrier(carrier)


def test_an_attribute_has_one_carrier() -> None:
    """Of the same name a second one takes its place."""
    register_carrier(TenantCarrier())
    register_carrier(TenantCarrier())
    other = TenantCarrier()
    other.name = "other"
    with pytest.raises(ConfigurationError, match="'tenant' has the attribute 'tenant'"):
        register_carrier(other)


class TestStructlog:
    """With structlog itself."""

    @pytest.fixture
    def variables(self) -> Iterator[Any]:
        found = pytest.importorskip("structlog.contextvars", reason="structlog is not installed")
        found.clear_contextvars()
        yield found
        found.clear_contextvars()

    @pytest.fixture
    def bound_in_handler(self, handling: Handling, variables: Any) -> Callable[..., Any]:
        seen: list[Any] = []
        handling(lambda event, message: seen.append(variables.get_contextvars()))

        def bound(**attributes: str) -> Any:
            receive(from_elsewhere(**attributes))
            return seen[-1]

        return bound

    def test_chosen_variables_go_along(
        self, variables: Any, bound_in_handler: Callable[..., Any]
    ) -> None:
        """And no others: they may be secret."""
        register_carrier(StructlogCarrier(("request_id", "attempt")))
        with variables.bound_contextvars(request_id="r-1", attempt=2, password="x"):
            attributes = emit().attributes
        assert attributes == {"structlog": '{"request_id": "r-1", "attempt": 2}'}
        assert bound_in_handler(**attributes) == {"request_id": "r-1", "attempt": 2}
        assert variables.get_contextvars() == {}

    def test_the_default_is_the_id_of_the_request(self, variables: Any) -> None:
        """Without it nothing is carried."""
        register_carrier(StructlogCarrier())
        with variables.bound_contextvars(user_id=7):
            assert emit().attributes == {}
        with variables.bound_contextvars(request_id="r-1", user_id=7):
            assert emit().attributes == {"structlog": '{"request_id": "r-1"}'}

    @pytest.mark.parametrize(
        "sent",
        [
            "",
            "nonsense",
            "[]",
            '{"request_id": {"a": 1}}',
            '{"request_id": "a\\nlevel=critical"}',
            '{"other": "x"}',
            "[" * 1000,
            '{"request_id": ' + "9" * 900 + "}",
        ],
    )
    def test_what_others_send_is_bound_only_if_it_is_plain(
        self, sent: str, bound_in_handler: Callable[..., Any]
    ) -> None:
        """The handler is called whatever it is."""
        register_carrier(StructlogCarrier())
        assert bound_in_handler(structlog=sent) == {}


class TestSentry:
    """With Sentry's own library."""

    @pytest.fixture
    def sdk(self) -> Iterator[Any]:
        sdk = pytest.importorskip("sentry_sdk", reason="sentry-sdk is not installed")
        client = sdk.Client(
            "http://key@127.0.0.1:9/1", default_integrations=False, environment="tests"
        )
        with sdk.isolation_scope() as scope:
            scope.set_client(client)
            yield sdk
        client.close()

    @pytest.fixture(autouse=True)
    def _registered(self) -> None:
        from outbox.carriers import SentryCarrier  # noqa: PLC0415

        register_carrier(SentryCarrier())

    def test_an_error_of_the_handler_belongs_to_the_trace_of_the_emitter(
        self, sdk: Any, handling: Handling
    ) -> None:
        """Though they are different processes; and only there."""
        seen: list[str] = []
        handling(lambda event, message: seen.append(sdk.get_traceparent().split("-")[0]))
        with sdk.isolation_scope():
            sdk.continue_trace({"sentry-trace": f"{'ab' * 16}-{'cd' * 8}-0"})
            message = emit()
        assert message.attributes["sentrytrace"].startswith("ab" * 16)
        assert "sentry-environment=tests" in message.attributes["sentrybaggage"]

        receive(from_elsewhere(**message.attributes))
        assert seen == ["ab" * 16]
        assert not sdk.get_traceparent().startswith("ab" * 16)

    @pytest.mark.parametrize("sent", ["", "nonsense", "x" * 1000, "00-0-0", "é"])
    def test_what_others_send_harms_nobody(self, sdk: Any, handling: Handling, sent: str) -> None:
        """Sentry takes it for no trace."""
        handling()
        [result] = receive(from_elsewhere(sentrytrace=sent, sentrybaggage=sent))
        assert result.handled == 1

    def test_without_a_client_nothing_is_carried(self) -> None:
        """The library may be installed, and not in use."""
        pytest.importorskip("sentry_sdk", reason="sentry-sdk is not installed")
        assert emit().attributes == {}

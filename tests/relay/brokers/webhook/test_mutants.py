"""Mistakes that one makes easily, and that the other tests of this folder catch."""

from collections.abc import Callable
from typing import Any

import pytest
from requests.adapters import HTTPAdapter
from requests_hardened.ip_filter_adapter import IPFilterAdapter

from relay.brokers.webhook import WebhookBroker, answers, posting
from relay.brokers.webhook.answers import Answer
from relay.brokers.webhook.receivers import Receiver
from relay.loop import Relay
from relay.parking.store import Parking
from tests.kit.services.callbacks import CallbackServer
from tests.relay.brokers.webhook import test_broker, test_posting, test_relay
from tests.relay.brokers.webhook.test_posting import connected

__all__ = ["connected"]
pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


class Unfiltered(HTTPAdapter):
    """Connects to whatever a name says."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()


class TheLibraryAlone(IPFilterAdapter):
    """Without the forms of addresses that it does not know."""

    def __init__(self, *_: Any, is_https_proto: bool) -> None:
        super().__init__(is_https_proto=is_https_proto)


class ResolvedTwice(posting._Adapter):
    """Looks at an address of the name, and connects to the one that it has after that."""

    def build_connection_pool_key_attributes(self, *arguments: Any) -> Any:
        super().build_connection_pool_key_attributes(*arguments)
        return HTTPAdapter.build_connection_pool_key_attributes(self, *arguments)


@pytest.mark.parametrize(
    ("adapter", "host"),
    [
        (Unfiltered, "127.0.0.1"),
        (Unfiltered, "2130706433"),
        (Unfiltered, "[::ffff:127.0.0.1]"),
        (TheLibraryAlone, "[::127.0.0.1]"),
    ],
)
def test_an_address_that_is_not_looked_at(
    server: CallbackServer,
    connected: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    adapter: type,
    host: str,
) -> None:
    monkeypatch.setattr(posting, "_Adapter", adapter)

    with pytest.raises(AssertionError):
        test_posting.test_a_hostile_host_is_never_connected_to(server, connected, host, "http")


def test_a_name_that_is_resolved_twice(
    server: CallbackServer, connected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "_Adapter", ResolvedTwice)

    with pytest.raises(AssertionError):
        test_posting.test_a_name_that_resolves_to_something_else_the_second_time_gains_nothing(
            server, connected, monkeypatch, test_posting.LOOPBACK
        )


def test_a_redirect_whose_body_is_read(
    server: CallbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As requests does, where it follows none as well."""
    monkeypatch.delattr(posting._Session, "get_redirect_target")

    with pytest.raises(AssertionError):
        test_posting.test_an_endless_body_is_not_read(server, 302)


def test_a_deadline_for_each_byte_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a timeout of sockets is: an answer that drips has no end."""

    def readinto(answer: Any, buffer: Any) -> Any:
        if len(read) == 100:
            raise ConnectionResetError(104, "read for too long")
        read.append(buffer)
        return answer._file.readinto(buffer)

    read: list[Any] = []
    monkeypatch.setattr(posting._Answer, "readinto", readinto)

    with pytest.raises(AssertionError):
        test_posting.test_an_answer_that_drips_is_over_at_the_deadline()


def changed(**values: Any) -> Callable[..., Answer]:
    """Return answered(), with something else in its outcome."""
    right = answers.answered

    def answered(*arguments: Any) -> Answer:
        answer = right(*arguments)
        return answer._replace(outcome=answer.outcome._replace(**values))

    return answered


def test_gone_that_is_tried_again(
    make: Callable[..., Relay],
    server: CallbackServer,
    called_back: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(posting, "answered", changed(final=False))

    with pytest.raises(AssertionError):
        test_relay.test_gone_is_dead_at_once_and_can_be_discarded(make, server, called_back)


def test_a_pause_that_is_forgotten(
    make: Callable[..., Relay],
    server: CallbackServer,
    called_back: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(posting, "answered", changed(after=0.0))

    with pytest.raises(AssertionError):
        test_relay.test_retry_after_is_obeyed(make, server, called_back, 429)


def test_a_callback_under_way_that_is_sent_again(
    server: CallbackServer,
    called_back: Callable[..., str],
    broker: WebhookBroker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(WebhookBroker, "_is_known", lambda *_: False)

    with pytest.raises((AssertionError, KeyError)):
        test_broker.test_a_slow_receiver_is_waited_for_no_longer_than_a_page_has_time(
            server, called_back, broker
        )


def test_a_receiver_that_is_away_and_tried_with_each_callback(
    make: Callable[..., Relay],
    server: CallbackServer,
    called_back: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Receiver, "refusal", lambda _: None)

    with pytest.raises(AssertionError):
        test_relay.test_a_dead_receiver_costs_parked_rows_and_delays_nobody(
            make, server, called_back
        )


def test_waiting_that_counts_as_an_attempt(
    make: Callable[..., Relay],
    server: CallbackServer,
    called_back: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = Parking._refuse

    def refuse(parking: Parking, row: Any, outcome: Any) -> None:
        row.attempts += 1
        right(parking, row, outcome)

    monkeypatch.setattr(Parking, "_refuse", refuse)

    with pytest.raises(AssertionError):
        test_relay.test_a_slow_receiver_costs_one_parked_row_and_no_attempt(
            make, server, called_back, caplog
        )

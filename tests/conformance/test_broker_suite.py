"""The shipped conformance suite finds what is wrong with a broker, and nothing else."""

import unittest
from collections.abc import Mapping, Sequence
from typing import Any, Self

import pytest
from django.test import SimpleTestCase
from msgspec.structs import replace

from outbox.exceptions import ConfigurationError
from outbox.message.envelope import Envelope
from relay.brokers.base import CONFIRMED, UNSENT, Broker, Outcome, Status, hold
from relay.brokers.conformance import NOBODYS_TOPIC, BrokerConformance

TESTS = sorted(name for name in vars(BrokerConformance) if name.startswith("test_"))
OVERSIZE = b"too large"


class Server:
    """What is behind the broker, and goes on when the broker ends."""

    def __init__(self) -> None:
        self.messages: list[Envelope] = []
        self.away = False


class MemoryBroker(Broker):
    """A broker as it should be, with a place for one defect."""

    confirms = ordered = durable = routable_check = True
    defect = ""
    server = Server()

    @classmethod
    def from_settings(cls, url: str, options: Mapping[str, Any], *, using: str) -> Self:
        if options and cls.defect != "swallows options":
            raise ConfigurationError(f"unknown options {sorted(options)}")
        return cls()

    @property
    def address(self) -> str:
        return "memory://user:swordfish@here" if self.defect == "shows" else "memory"

    def publish(self, page: Sequence[Envelope]) -> list[Outcome]:
        if not page and self.defect == "nothing":
            raise ValueError("nothing to do")
        if self.server.away:
            blame = Status.REFUSED if self.defect == "blames" else Status.UNKNOWN
            return [Outcome(blame, "away") for _ in page]
        if self.page_seconds == 0.0:
            page, rest = page[:1], page[1:]
        else:
            rest = []
        refused = {
            index: Outcome(status, "refused" if self.defect != "silent" else "")
            for index, each in enumerate(page)
            if (status := self._refusal(each))
        }
        settled = refused if self.defect == "overtakes" else hold(page, refused)
        sent = [each for index, each in enumerate(page) if index not in settled]
        self._deliver(sent)
        outcomes = [settled.get(index, CONFIRMED) for index in range(len(page))]
        if self.defect == "forgets the rest":
            return outcomes
        return outcomes + [UNSENT] * len(rest)

    def _refusal(self, message: Envelope) -> Status | None:
        if message.topic == NOBODYS_TOPIC and self.defect != "drops":
            return Status.UNROUTABLE
        return Status.REFUSED if message.data == OVERSIZE else None

    def _deliver(self, sent: list[Envelope]) -> None:
        match self.defect:
            case "loses":
                sent = sent[:-1]
            case "repeats":
                sent = [*sent, *sent[:1]]
            case "reorders":
                sent = sent[::-1]
            case "changes":
                sent = [replace(each, subject=None) for each in sent]
        self.server.messages += sent

    def close(self) -> None:
        if self.defect == "closes badly":
            raise OSError("not connected")


class MemoryConformance(BrokerConformance):
    """The suite for it."""

    broker_class = MemoryBroker
    secret = "swordfish"

    def received(self) -> Sequence[Envelope]:
        return MemoryBroker.server.messages

    def refused(self, message: Envelope) -> Envelope:
        return replace(message, data=OVERSIZE)

    def stop(self) -> None:
        MemoryBroker.server.away = True

    def start(self) -> None:
        MemoryBroker.server.away = False

    def restart(self) -> None:
        if MemoryBroker.defect == "forgets":
            MemoryBroker.server.messages.clear()


@pytest.fixture(autouse=True)
def _server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryBroker, "server", Server())


@pytest.mark.parametrize("test", TESTS)
def test_a_broker_as_it_should_be_passes(test: str) -> None:
    """Every test of the suite."""
    getattr(MemoryConformance(), test)()


DEFECTS = {
    "nothing": "an_empty_page_has_no_outcome",
    "loses": "every_message_has_its_outcome_and_arrives",
    "repeats": "every_message_has_its_outcome_and_arrives",
    "changes": "what_arrives_is_what_was_emitted",
    "reorders": "messages_of_a_key_keep_their_order",
    "forgets the rest": "a_page_ends_when_its_time_is_over",
    "closes badly": "a_closed_broker_starts_again",
    "swallows options": "an_unknown_option_is_an_error_of_check",
    "shows": "no_credentials_are_shown",
    "drops": "what_reaches_no_queue_is_unroutable",
    "overtakes": "a_refused_message_holds_back_its_key_alone",
    "silent": "a_refused_message_holds_back_its_key_alone",
    "blames": "an_outage_blames_no_message",
    "forgets": "what_is_confirmed_survives_a_restart",
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the test that is about it."""
    monkeypatch.setattr(MemoryBroker, "defect", defect)

    with pytest.raises((AssertionError, ValueError, OSError)):
        getattr(MemoryConformance(), f"test_{DEFECTS[defect]}")()


def test_every_test_can_fail() -> None:
    """There is a defect for each."""
    assert {f"test_{name}" for name in DEFECTS.values()} == set(TESTS)


@pytest.mark.parametrize(
    ("capability", "test"),
    [
        ("ordered", "test_messages_of_a_key_keep_their_order"),
        ("durable", "test_what_is_confirmed_survives_a_restart"),
        ("routable_check", "test_what_reaches_no_queue_is_unroutable"),
        ("carries_events", "test_what_arrives_is_what_was_emitted"),
    ],
)
def test_what_is_not_declared_is_not_tested(
    capability: str, test: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is skipped, and the reason names the capability."""
    monkeypatch.setattr(MemoryBroker, capability, False)

    with pytest.raises(unittest.SkipTest, match=f"MemoryBroker does not declare {capability}"):
        getattr(MemoryConformance(), test)()


def test_it_runs_with_unittest() -> None:
    """As a mixin, without pytest."""

    class MemoryTests(MemoryConformance, SimpleTestCase):
        def setUp(self) -> None:
            MemoryBroker.server = Server()

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(MemoryTests).run(result)

    assert result.testsRun == len(TESTS)
    assert result.wasSuccessful(), result.errors + result.failures

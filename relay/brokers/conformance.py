"""What every broker must do: tests for an adapter, chosen by the capabilities that it declares.

class TestStreamBroker(BrokerConformance):
    broker_class = StreamBroker
    url = "redis://localhost:6379/0"
    def received(self):
        return [envelope_of(entry) for entry in client.xrange("events")]

pytest runs such a class as it is; with unittest let it inherit from SimpleTestCase as well. No
table is needed. A test that the broker does not declare the capability for, or that this class
does not say enough for, is skipped with the reason.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any, ClassVar, Never
from unittest import SkipTest

from django.db import transaction
from msgspec.structs import replace

from outbox.exceptions import ConfigurationError
from outbox.message.celery_task import (
    CONTENT_TYPE,
    MESSAGE_ID,
    TASK_TYPE,
    QueueDeclaration,
    TaskMessage,
    encode,
)
from outbox.message.envelope import Envelope
from outbox.message.ids import uuid7_text
from relay.brokers.base import CONFIRMED, Broker, Outcome, Status

TOPIC = "conformance.counted"
NOBODYS_TOPIC = "conformance.nobodys"
"""A topic that no queue may be bound for."""
TASK_QUEUE = "conformance"
"""The queue of tasks, for brokers that carry no events."""

REFUSALS = {Status.NACKED, Status.UNROUTABLE, Status.REFUSED, Status.FAILED}
NOT_SENT = {Status.UNKNOWN, Status.UNSENT, Status.HELD}


class BrokerConformance:
    """Tests of one adapter of Broker; a subclass says how to build it and what has arrived."""

    broker_class: ClassVar[type[Broker]]
    url: str = ""
    """The relay's URL."""
    options: Mapping[str, Any] = {}
    """The relay's OPTIONS."""
    using: str = "default"
    """The alias of the database whose log is read."""
    secret: str = ""
    """What of the URL or the options must not be shown: a password."""

    # --- What a subclass says ---------------------------------------------------------------

    def received(self) -> Sequence[Envelope]:
        """Return all that has arrived so far, in the order of arrival.

        A queue for TOPIC has to be there before something is published. Of a task only the id
        counts, which is in its header MESSAGE_ID.
        """
        raise NotImplementedError

    def refused(self, message: Envelope) -> Envelope:
        """Return a message like this one that the broker refuses, as it takes others."""
        _skip("the class does not say how to have a message refused: refused()")

    def stop(self) -> None:
        """Take the broker away: nothing passes, as in an outage."""
        _skip("the class does not say how to take the broker away: stop() and start()")

    def start(self) -> None:
        """Let the broker be there again after stop()."""

    def restart(self) -> None:
        """Let the broker end and begin anew, by a crash if it can."""
        _skip("the class does not say how to restart the broker: restart()")

    # --- The tests --------------------------------------------------------------------------

    def test_an_empty_page_has_no_outcome(self) -> None:
        """Publishing nothing is no error, also before anything else."""
        with self.opened() as broker:
            _expect([], self.publish(broker, []), "publish([]) returns no outcomes")

    def test_every_message_has_its_outcome_and_arrives(self) -> None:
        """As many outcomes as messages; what is confirmed has arrived, once."""
        page = [self.message(key) for _ in range(20) for key in "abcde"]
        with self.opened() as broker:
            _expect([CONFIRMED] * 100, self.publish(broker, page), "a page of 100 is confirmed")
            _expect(sorted(_ids(page)), sorted(self.received_ids()), "all arrive, each once")

    def test_what_arrives_is_what_was_emitted(self) -> None:
        """Every attribute and the data are the same, byte for byte, whatever they are."""
        self.needs("carries_events")
        full = self.message("ключ", data=bytes(range(256)), content_type="application/x-bytes")
        bare = Envelope(uuid7_text(), full.source, TOPIC, b"null", topic=TOPIC, time=full.time)
        with self.opened() as broker:
            self.publish(broker, [full, bare])
            _expect([full, bare], list(self.received()), "a message arrives unchanged")

    def test_messages_of_a_key_keep_their_order(self) -> None:
        """Within a page, of one hot key and of several, and from page to page."""
        self.needs("ordered")
        pages = [[self.message("hot") for _ in range(50)]]
        pages += [[self.message(key) for _ in range(5) for key in "abc"] for _ in range(3)]
        with self.opened() as broker:
            for page in pages:
                self.publish(broker, page)
            arrived, sent = self.received_ids(), [each for page in pages for each in page]
            for key in ("hot", *"abc"):
                ids = _ids(each for each in sent if each.key == key)
                _expect(ids, [each for each in arrived if each in ids], f"the order of key {key}")

    def test_a_page_ends_when_its_time_is_over(self) -> None:
        """However short the time, something is sent; what is not is unsent, and nothing else."""
        left = [self.message("a") for _ in range(10)]
        sent = _ids(left)
        with self.opened() as broker:
            broker.page_seconds = 0.0
            while left:
                outcomes = self.publish(broker, left)
                count = outcomes.count(CONFIRMED)
                _expect(True, count > 0, "the first message of a page is sent")
                unsent = [outcome.status for outcome in outcomes[count:]]
                _expect([Status.UNSENT] * (len(left) - count), unsent, "the rest is unsent")
                left = left[count:]
            _expect(sent, self.received_ids(), "the pages together are all, each message once")

    def test_a_closed_broker_starts_again(self) -> None:
        """Closing twice, or before anything was published, is no error."""
        with self.opened() as broker:
            broker.close()
            first, second = self.message("a"), self.message("a")
            self.publish(broker, [first])
            broker.close()
            broker.close()
            _expect([CONFIRMED], self.publish(broker, [second]), "publish() after close() works")
            _expect(_ids([first, second]), self.received_ids(), "both arrive")

    def test_an_unknown_option_is_an_error_of_check(self) -> None:
        """A typo in OPTIONS is found by `manage.py check`, and the right ones raise nothing."""
        good = self.broker_class.check("conformance", self.url, self.options)
        _expect([], [message for message in good if message.is_serious()], "check() of the options")
        try:
            options = {**self.options, "NO_SUCH_OPTION": 1}
            self.broker_class.from_settings(self.url, options, using=self.using)
        except ConfigurationError:
            return
        raise AssertionError("from_settings() raises ConfigurationError for an unknown option")

    def test_no_credentials_are_shown(self) -> None:
        """The address, which logs and the admin show, has no password."""
        with self.opened() as broker:
            _expect(True, bool(f"{broker.address}"), "the address says where the broker is")
            if not self.secret:
                _skip("the class names no secret")
            _expect(False, self.secret in f"{broker.address}", "the address shows the secret")

    def test_what_reaches_no_queue_is_unroutable(self) -> None:
        """It is told, holds back later messages of its key, and no other."""
        self.needs("routable_check")
        lost = replace(self.message("a"), topic=NOBODYS_TOPIC)
        with self.opened() as broker:
            outcome = self.refuse(broker, lost)
            _expect(Status.UNROUTABLE, outcome.status, "the outcome of what reaches no queue")

    def test_a_refused_message_holds_back_its_key_alone(self) -> None:
        """Messages of its key that come later in the page are held; all others pass."""
        with self.opened() as broker:
            outcome = self.refuse(broker, self.refused(self.message("a")))
            _expect(True, outcome.status in REFUSALS, f"{outcome} is a refusal")
            _expect(True, bool(outcome.reason), "a refusal says why")

    def test_an_outage_blames_no_message(self) -> None:
        """While the broker is away nothing is confirmed or refused; later everything passes."""
        page = [self.message(key) for key in "abc"]
        with self.opened() as broker:
            self.stop()
            try:
                for _ in range(2):
                    try:
                        outcomes = self.publish(broker, page)
                    except Exception:  # noqa: S112 # nosec B112 - tells nothing of any message
                        continue
                    blamed = [each for each in outcomes if each.status not in NOT_SENT]
                    _expect([], blamed, "an outage is an unknown outcome")
                    _expect(len(page), len(outcomes), "one outcome for each message")
            finally:
                self.start()
            self.passes(broker, page)
            missing = set(_ids(page)) - set(self.received_ids())
            _expect(set(), missing, "what was confirmed after the outage has arrived")

    def test_what_is_confirmed_survives_a_restart(self) -> None:
        """Of a durable broker, and as soon as it is confirmed."""
        self.needs("durable")
        page = [self.message(key) for key in "aab"]
        with self.opened() as broker:
            _expect([CONFIRMED] * 3, self.publish(broker, page), "the page is confirmed")
            self.restart()
            _expect(sorted(_ids(page)), sorted(self.received_ids()), "all are there afterwards")

    # --- What they are made of --------------------------------------------------------------

    @contextmanager
    def opened(self) -> Iterator[Broker]:
        """Give a broker of these settings, and close it."""
        broker = self.broker_class.from_settings(self.url, self.options, using=self.using)
        try:
            yield broker
        finally:
            broker.close()

    def publish(self, broker: Broker, page: Sequence[Envelope]) -> list[Outcome]:
        """Publish as a relay does: a broker that runs handlers does so in a transaction."""
        within: AbstractContextManager[Any] = nullcontext()
        if broker.runs_handlers:
            within = transaction.atomic(using=self.using)
        with within:
            return broker.publish(page)

    def passes(self, broker: Broker, page: Sequence[Envelope]) -> None:
        """Publish until all is confirmed: a broker may need a look to find that it is over."""
        for _ in range(10):
            if (outcomes := self.publish(broker, page)) == [CONFIRMED] * len(page):
                return
        raise AssertionError(f"After the outage nothing passes: {outcomes}")

    def refuse(self, broker: Broker, bad: Envelope) -> Outcome:
        """Publish a message that is refused among others; return its outcome."""
        before, after, other = self.message("b"), self.message(bad.key), self.message("b")
        page = [before, bad, after, other]
        outcomes = self.publish(broker, page)
        _expect(len(page), len(outcomes), "one outcome for each message")
        _expect([CONFIRMED] * 2, [outcomes[0], outcomes[3]], "messages of another key pass")
        if broker.ordered:
            _expect(Status.HELD, outcomes[2].status, "what is behind it of its key is held")
            _expect(_ids([before, other]), self.received_ids(), "what has arrived")
        return outcomes[1]

    def received_ids(self) -> list[str]:
        """Return the ids of all that has arrived, in the order of arrival."""
        return [message.id for message in self.received()]

    def message(
        self, key: str | None, *, data: bytes = b"{}", content_type: str = "application/json"
    ) -> Envelope:
        """Return a new message: an event, or a task if the broker carries no events."""
        if not self.broker_class.carries_events:
            return _task(key)
        return Envelope(
            id=uuid7_text(),
            source="/conformance",
            type=TOPIC,
            topic=TOPIC,
            data=data,
            content_type=content_type,
            version=2,
            key=key,
            subject="a subject",
            time=datetime.now(UTC),
            correlation_id="a flow",
            causation_id=uuid7_text(),
            trace_parent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            trace_state="vendor=1",
            attributes={"tenant": "t1"},
        )

    def needs(self, capability: str) -> None:
        """Skip a test of what the broker does not promise."""
        if not getattr(self.broker_class, capability):
            _skip(f"{self.broker_class.__name__} does not declare {capability}")


def _task(key: str | None) -> Envelope:
    task_id = uuid7_text()
    task = TaskMessage(
        exchange="",
        routing_key=TASK_QUEUE,
        headers={"task": "conformance.task", "id": task_id, MESSAGE_ID: task_id},
        properties={
            "correlation_id": task_id,
            "content_type": "application/json",
            "content_encoding": "utf-8",
            "delivery_mode": 2,
        },
        body="[[], {}, {}]",
        declare=[QueueDeclaration(TASK_QUEUE)],
    )
    return Envelope(
        id=task_id,
        source="/conformance",
        type=TASK_TYPE,
        topic="conformance.task",
        data=encode(task),
        content_type=CONTENT_TYPE,
        key=key,
        subject=task_id,
    )


def _ids(messages: Any) -> list[str]:
    return [message.id for message in messages]


def _expect(expected: object, actual: object, rule: str) -> None:
    if expected != actual:
        raise AssertionError(f"{rule}:\nexpected {expected!r}\nbut got  {actual!r}")


def _skip(reason: str) -> Never:
    raise SkipTest(reason)

"""What every source must do, whatever it is. A new adapter is added to ADAPTERS."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from inbox.conf import InboxSettings
from inbox.sources.adapters import source_of
from inbox.sources.base import Incoming, Source, SourceAway, SourceDenied
from outbox.database.instants import now
from outbox.exceptions import ConfigurationError
from tests.inbox.support import happened, make_queue
from tests.kit.support import amqp_message
from tests.kit.waiting import until

TOPIC = "tests.happened"


@dataclass
class Subject:
    """A group's place on a broker, and the ways to reach it."""

    make: Callable[..., Source]
    """Return another source of the group, with some of INBOX; not yet open."""
    publish: Callable[..., None]
    """Publish messages to their topics; return when the broker has them."""
    publish_batch: Callable[[bytes], None]
    """Publish a batch of events as one message."""
    waiting: Callable[[], int]
    """How many messages wait for a consumer."""
    consumers: Callable[[], int]
    cut: Callable[[Source], None]
    """Break the connection of a source under it."""
    remove: Callable[[], None]
    """Remove the queue, with its bindings."""
    refused_url: str
    """The URL of the same broker, with a password that is refused."""
    absent_url: str
    """The URL of a broker that is not there."""


@pytest.fixture
def amqp(broker_url: str) -> Iterator[Subject]:
    queue = make_queue(broker_url)

    def make(url: str = broker_url, **settings: object) -> Source:
        conf: InboxSettings = replace(queue.conf, **settings)  # type: ignore[arg-type]
        return source_of(queue.name, url=url, conf=conf)

    def publish_batch(body: bytes) -> None:
        raw = amqp_message(happened())
        raw.body = body
        raw.properties["content_type"] = "application/cloudevents-batch+json"
        raw.properties["application_headers"] = {}
        queue.publish_raw((raw, TOPIC))

    def remove() -> None:
        with queue.channel() as channel:
            channel.queue_delete(queue.queue)

    yield Subject(
        make,
        queue.publish,
        publish_batch,
        queue.ready,
        queue.consumers,
        lambda source: source._link.transport.sock.shutdown(2),  # type: ignore[attr-defined]
        remove,
        broker_url.replace("guest:guest", "guest:hunter2"),
        "amqp://guest:hunter2@127.0.0.1:1//",
    )
    queue.delete()


ADAPTERS = ["amqp"]


@pytest.fixture(params=ADAPTERS)
def subject(request: pytest.FixtureRequest) -> Subject:
    found: Subject = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def opened(subject: Subject) -> Iterator[Callable[..., Source]]:
    """Opens sources, and lets them go at the end."""
    made: list[Source] = []

    def opened(*topics: str, **settings: object) -> Source:
        made.append(subject.make(**settings))
        made[-1].open(topics or [TOPIC])
        return made[-1]

    yield opened
    for each in made:
        each.drop()


def take(source: Source, count: int) -> list[Incoming]:
    """Read until so much has arrived."""
    until(lambda: source.read(0.1) or len(source.arrived) >= count)
    return list(source.arrived)


def read_for(source: Source, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        source.read(0.05)


def ids(arrived: list[Incoming]) -> list[str]:
    return [each.delivery.decode().id for each in arrived]


def test_what_is_published_arrives_unchanged(
    subject: Subject, opened: Callable[..., Source]
) -> None:
    """Every attribute and the data, byte for byte."""
    source = opened()
    message = happened(1, subject="s", attributes={"tenant": "t1"}, correlation_id="c")
    subject.publish(message)
    [incoming] = take(source, 1)

    assert incoming.delivery.decode() == message
    assert not incoming.delivery.redelivered
    assert incoming.weight >= len(message.data)


def test_topics_are_patterns(subject: Subject, opened: Callable[..., Source]) -> None:
    """What matches any of them arrives, once; what matches none does not."""
    source = opened("tests.*", "tests.#", "other.one")
    wanted = [happened(topic=topic) for topic in ("tests.a", "tests.a.b", "other.one")]
    subject.publish(happened(topic="tests.a"))
    take(source, 1)
    source.settle(1)
    subject.publish(*wanted)

    assert ids(take(source, 3)) == [each.id for each in wanted]


def test_what_is_not_settled_comes_again(subject: Subject, opened: Callable[..., Source]) -> None:
    """After an orderly end, and after a connection that breaks; what was settled does not."""
    messages = [happened(number) for number in range(4)]
    first = opened()
    subject.publish(*messages)
    take(first, 4)
    first.settle(1)
    first.close()
    until(lambda: subject.waiting() == 3)
    second = opened()
    arrived = take(second, 3)
    assert ids(arrived) == [each.id for each in messages[1:]]
    assert all(each.delivery.redelivered for each in arrived)
    second.settle(1)
    second.close()
    until(lambda: subject.waiting() == 2)

    assert ids(take(opened(), 2)) == [each.id for each in messages[2:]]


def test_nothing_settles_itself(subject: Subject, opened: Callable[..., Source]) -> None:
    """A source that is dropped has settled nothing."""
    source = opened()
    subject.publish(happened(1))
    take(source, 1)
    source.drop()

    until(lambda: subject.waiting() == 1)


def test_what_is_settled_is_gone_from_arrived(
    subject: Subject, opened: Callable[..., Source]
) -> None:
    """The oldest first, and more can be read then."""
    source = opened(PREFETCH=2)
    subject.publish(*[happened(number) for number in range(5)])
    seen: list[str] = []
    while len(seen) < 5:
        arrived = take(source, 1)
        assert len(arrived) <= 2
        seen.append(ids(arrived[:1])[0])
        source.settle(1)

    assert len(set(seen)) == 5
    assert source.is_empty()


def test_it_holds_no_more_than_it_may(subject: Subject, opened: Callable[..., Source]) -> None:
    """In number; and in bytes, where a message that is larger by itself is held alone."""
    few = opened(PREFETCH=3)
    subject.publish(*[happened(number) for number in range(10)])
    read_for(few, 0.5)
    assert len(few.arrived) == 3
    few.close()
    small = opened(PREFETCH_BYTES=1)

    assert len(take(small, 1)) == 1


def test_events_of_one_message_are_settled_with_the_last(
    subject: Subject, opened: Callable[..., Source]
) -> None:
    """A batch of two, of which one is handled, comes again as a whole."""
    source = opened()
    batch = b'[{"specversion":"1.0","id":"1","source":"/s","type":"tests.happened","data":{}},'
    batch += b'{"specversion":"1.0","id":"2","source":"/s","type":"tests.happened","data":{}}]'
    subject.publish_batch(batch)
    take(source, 2)
    source.settle(1)
    source.close()
    until(lambda: subject.waiting() == 1)
    again = opened()
    assert ids(take(again, 2)) == ["1", "2"]
    again.settle(1)
    again.settle(1)
    again.close()

    assert subject.waiting() == 0


def test_a_read_waits_and_ends_early(subject: Subject, opened: Callable[..., Source]) -> None:
    """With nothing there it takes its time and no more; with a message it returns at once."""
    source = opened()
    started = time.monotonic()
    source.read(0.2)
    assert 0.1 < time.monotonic() - started < 5
    subject.publish(happened(1))
    started = time.monotonic()
    source.read(30)

    assert time.monotonic() - started < 10
    assert len(source.arrived) == 1


def test_empty_means_empty(subject: Subject, opened: Callable[..., Source]) -> None:
    """Neither with what has arrived, nor with what waits; what others hold is theirs."""
    source = opened(PREFETCH=1)
    assert source.is_empty()
    subject.publish(*[happened(number) for number in range(3)])
    until(lambda: not source.is_empty())
    take(source, 1)
    assert not source.is_empty()
    other = opened()
    take(other, 2)
    source.settle(1)

    assert source.is_empty()


def test_connect_says_what_is_there(subject: Subject, opened: Callable[..., Source]) -> None:
    """Whether there is a queue. It declares nothing."""

    def found() -> bool:
        source = subject.make()
        try:
            return source.connect()
        finally:
            source.drop()

    assert (found(), found()) == (False, False)
    source = opened()
    assert found()
    source.close()
    assert found()
    subject.remove()
    assert not found()


def test_what_is_gone_does_not_arrive(subject: Subject, opened: Callable[..., Source]) -> None:
    """Topics that a group no longer wants, also such as it never had."""
    opened("tests.a", "tests.b").close()
    source = subject.make()
    declared = source.open(["tests.a"], gone=["tests.b", "tests.never"])
    assert declared == ({"tests.a"}, {"tests.b", "tests.never"})
    try:
        subject.publish(happened(topic="tests.a"))
        take(source, 1)
        source.settle(1)
        probe = happened(topic="tests.a")
        subject.publish(happened(topic="tests.b"), probe)

        assert ids(take(source, 1)) == [probe.id]
    finally:
        source.drop()


def test_messages_wait_while_nobody_reads(subject: Subject, opened: Callable[..., Source]) -> None:
    """Queue and bindings outlive their consumer."""
    opened().close()
    subject.publish(happened(1))

    assert subject.waiting() == 1


def test_a_lost_connection_is_an_error_of_the_port(
    subject: Subject, opened: Callable[..., Source]
) -> None:
    """And of its use no more is asked: dropped, and another one opened."""
    source = opened()
    subject.publish(happened(1))
    take(source, 1)
    subject.cut(source)
    with pytest.raises(SourceAway):
        read_for(source, 30)
    source.drop()
    source.drop()
    source.close()

    assert len(take(opened(), 1)) == 1


def test_a_removed_queue_is_an_error_of_the_port(
    subject: Subject, opened: Callable[..., Source]
) -> None:
    """Else nothing would ever come, and nobody would know."""
    source = opened()
    subject.remove()

    with pytest.raises(SourceAway):
        read_for(source, 30)


def test_contact_is_never_later_than_the_queue(
    subject: Subject, opened: Callable[..., Source]
) -> None:
    """It goes on while the queue is there, also without messages, and not after that."""
    source = opened(HEARTBEAT=1)
    begun = source.contact
    assert begun <= now()
    until(lambda: source.read(0.1) or source.contact > begun)
    removed = now()
    subject.remove()
    with pytest.raises(SourceAway):
        read_for(source, 30)

    assert begun < source.contact <= removed


def test_it_lives_on_while_handlers_run(subject: Subject, opened: Callable[..., Source]) -> None:
    """For longer than the broker waits for a sign of life."""
    source = opened(HEARTBEAT=1)
    with source.idle():
        time.sleep(3.5)
    subject.publish(happened(1))

    assert len(take(source, 1)) == 1


def test_a_broker_that_is_absent_is_away(subject: Subject) -> None:
    """Its reason and its address tell no secrets."""
    source = subject.make(url=subject.absent_url)
    with pytest.raises(SourceAway) as caught:
        source.open([TOPIC])
    source.drop()

    assert not isinstance(caught.value, SourceDenied)
    assert "hunter2" not in f"{caught.value} {source.address}"


def test_a_broker_that_does_not_let_us_in_says_so(subject: Subject) -> None:
    """It is told from one that is away: it may need a person."""
    source = subject.make(url=subject.refused_url)
    with pytest.raises(SourceDenied) as caught:
        source.open([TOPIC])
    source.drop()

    assert "hunter2" not in f"{caught.value} {source.address}"


def test_a_url_of_no_use_is_refused_before_anything_is_opened() -> None:
    """Whatever adapter it would be for; nothing of it is quoted."""
    with pytest.raises(ConfigurationError) as caught:
        source_of("g", url="nonsense://user:hunter2@host", conf=InboxSettings())

    assert "hunter2" not in str(caught.value)

"""The confirm window: what may be sent, and what became of it."""

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from outbox.message.envelope import Envelope
from relay.brokers.amqp.window import ConfirmWindow
from relay.brokers.base import CONFIRMED, Status


def page(*keys: str | None) -> list[Envelope]:
    return [
        Envelope(id=str(n), source="/t", type="t", data=b"", key=key) for n, key in enumerate(keys)
    ]


def send_all(window: ConfirmWindow) -> list[str]:
    sent = []
    while (envelope := window.next()) is not None:
        sent.append(envelope.id)
    return sent


def statuses(window: ConfirmWindow) -> list[Status]:
    return [outcome.status for outcome in window.outcomes()]


def test_different_keys_are_in_flight_together() -> None:
    """Messages of different keys, and those without one, are all sent at once."""
    window = ConfirmWindow(page("a", "b", None, None))

    assert send_all(window) == ["0", "1", "2", "3"]


def test_the_window_bounds_what_is_in_flight() -> None:
    """No more than `limit` messages are unconfirmed; each ack makes room."""
    window = ConfirmWindow(page(*"abcd"), limit=2)
    assert send_all(window) == ["0", "1"]
    window.ack(1)

    assert send_all(window) == ["2"]
    assert window.in_flight == 2


def test_a_key_is_in_flight_once() -> None:
    """The next message of a key is sent when the one before it is confirmed."""
    window = ConfirmWindow(page("a", "a", "b", "a"))
    assert send_all(window) == ["0", "2"]
    window.ack(1)

    assert send_all(window) == ["1"]


def test_an_ack_may_settle_many() -> None:
    """multiple=True confirms every tag up to it; tags go on from the channel's last."""
    window = ConfirmWindow(page(*"abc"), first_tag=41)
    send_all(window)
    window.ack(42, multiple=True)
    assert not window.done
    window.ack(43)

    assert window.done
    assert window.next_tag == 44
    assert window.outcomes() == [CONFIRMED] * 3


def test_a_returned_message_is_unroutable_although_its_ack_follows() -> None:
    """basic.return comes before the ack and decides."""
    window = ConfirmWindow(page("a", "b"))
    send_all(window)
    window.returned("0", "no queue")
    window.ack(2, multiple=True)

    assert statuses(window) == [Status.UNROUTABLE, Status.CONFIRMED]
    assert window.outcomes()[0].reason == "no queue"


def test_behind_a_refused_message_its_key_is_held() -> None:
    """After a nack nothing more of that key is sent; other keys go on."""
    window = ConfirmWindow(page("a", "b", "a", "a", "b"), limit=2)
    send_all(window)
    window.nack(1)
    window.ack(2)
    assert send_all(window) == ["4"]
    window.ack(3)

    assert window.done
    assert statuses(window) == [
        Status.NACKED,
        Status.CONFIRMED,
        Status.HELD,
        Status.HELD,
        Status.CONFIRMED,
    ]


def test_a_nack_may_settle_many() -> None:
    """multiple=True refuses every tag up to it."""
    window = ConfirmWindow(page(*"ab"))
    send_all(window)
    window.nack(2, multiple=True)

    assert statuses(window) == [Status.NACKED, Status.NACKED]


def test_late_and_strange_tags_are_ignored() -> None:
    """A confirm for a tag that is not in flight changes nothing."""
    window = ConfirmWindow(page("a"), first_tag=10)
    send_all(window)
    window.ack(3)
    window.ack(9, multiple=True)
    window.nack(11)

    assert not window.done


def test_what_is_open_at_the_end_is_unknown() -> None:
    """Messages sent and unsent without a word from the broker are unknown, with the reason."""
    window = ConfirmWindow(page("a", "a", "b"))
    send_all(window)
    window.ack(2)

    outcomes = window.outcomes("connection lost")
    assert [outcome.status for outcome in outcomes] == [
        Status.UNKNOWN,
        Status.UNKNOWN,
        Status.CONFIRMED,
    ]
    assert outcomes[0].reason == "connection lost"


def test_what_cannot_be_sent_has_no_tag() -> None:
    """It is refused, its key held; the tags of the others are those that the broker gives."""
    window = ConfirmWindow(page("a", "b", "a", "c"), first_tag=7)
    assert window.next() is not None
    window.unsendable("too large")
    assert send_all(window) == ["1", "3"]
    window.ack(7)
    window.nack(8)

    assert statuses(window) == [Status.REFUSED, Status.CONFIRMED, Status.HELD, Status.NACKED]
    assert window.outcomes()[0].reason == "too large"
    assert window.next_tag == 9


def test_a_suspect_that_cannot_be_sent_again_makes_room_for_the_next() -> None:
    """Suspects go one by one; the one that is refused before it is sent is not waited for."""
    window = ConfirmWindow(page(*"abc"))
    send_all(window)
    window.channel_closed("closed")
    window.next()
    window.unsendable("too large")

    second = window.next()
    assert second is not None
    assert second.id == "1"
    assert window.next() is None


def test_without_holding_a_refused_message_is_overtaken() -> None:
    """hold=False: what is behind a refused message of its key is sent all the same."""
    window = ConfirmWindow(page("a", "a", "b"), hold=False)
    send_all(window)
    window.nack(1)
    assert send_all(window) == ["1"]
    window.ack(3, multiple=True)

    assert statuses(window) == [Status.NACKED, Status.CONFIRMED, Status.CONFIRMED]


def test_a_closed_channel_makes_suspects_of_what_was_in_flight() -> None:
    """They are sent again one by one, with tags from 1; the next close has one culprit."""
    window = ConfirmWindow(page("a", "b", "c", "b"), first_tag=7)
    send_all(window)
    window.ack(7)
    window.channel_closed("too large")
    assert send_all(window) == ["1"]
    window.channel_closed("too large")
    assert send_all(window) == ["2"]
    window.ack(1)

    assert window.done
    assert statuses(window) == [
        Status.CONFIRMED,
        Status.REFUSED,
        Status.CONFIRMED,
        Status.HELD,
    ]
    assert window.outcomes()[1].reason == "too large"


def test_behind_the_suspects_messages_share_the_window_again() -> None:
    """When every suspect has its outcome, the rest goes on as before."""
    window = ConfirmWindow(page("a", "b", "c", "d", "e"), limit=2)
    assert send_all(window) == ["0", "1"]
    window.channel_closed("too large")
    assert send_all(window) == ["0"]
    window.ack(1)
    assert send_all(window) == ["1"]
    window.ack(2)

    assert send_all(window) == ["2", "3"]


@settings(max_examples=300)
@given(
    keys=st.lists(st.sampled_from(["a", "b", "c", None]), max_size=30),
    limit=st.integers(1, 8),
    data=st.data(),
)
def test_whatever_the_broker_says_order_and_outcomes_hold(
    keys: list[str | None], limit: int, data: st.DataObject
) -> None:
    """Acks, nacks, returns, closes: one outcome each, no key overtaken, none past a refusal."""
    messages = page(*keys)
    window = ConfirmWindow(messages, limit=limit)
    sent: dict[int, Envelope] = {}
    tag = 0
    refused: set[str] = set()
    order: dict[str, list[str]] = defaultdict(list)
    while not window.done:
        while (envelope := window.next()) is not None:
            tag += 1
            sent[tag] = envelope
            assert envelope.key is None or envelope.key not in refused
            assert len(sent) <= limit
            if envelope.key is not None and envelope.id not in order[envelope.key]:
                order[envelope.key].append(envelope.id)
        if data.draw(st.integers(0, 9)) == 0:
            if len(sent) == 1:
                refused |= {each.key for each in sent.values() if each.key}
            window.channel_closed("closed")
            sent, tag = {}, 0
            continue
        chosen = data.draw(st.sampled_from(sorted(sent)))
        multiple = data.draw(st.booleans())
        answer = data.draw(st.sampled_from(["ack", "ack", "nack", "return"]))
        settled = [t for t in sorted(sent) if t == chosen or (multiple and t < chosen)]
        if answer == "return":
            window.returned(sent[chosen].id, "no queue")
        (window.nack if answer == "nack" else window.ack)(chosen, multiple)
        for each in settled:
            envelope = sent.pop(each)
            if envelope.key and (answer == "nack" or (answer == "return" and each == chosen)):
                refused.add(envelope.key)

    for key, ids in order.items():
        assert ids == [m.id for m in messages if m.key == key][: len(ids)]
    assert all(outcome.status is not Status.UNKNOWN for outcome in window.outcomes())


def test_when_the_time_is_over_what_is_in_flight_is_waited_for() -> None:
    """Nothing more is sent; what was not is told from what the broker did not answer."""
    window = ConfirmWindow(page("a", "a", "b", "a", "c"), limit=2)
    assert send_all(window) == ["0", "2"]
    window.ack(1)
    assert send_all(window) == ["1"]
    window.stop()

    assert send_all(window) == []
    assert not window.done
    window.ack(3, multiple=True)
    assert window.done
    assert statuses(window) == [
        Status.CONFIRMED,
        Status.CONFIRMED,
        Status.CONFIRMED,
        Status.UNSENT,
        Status.UNSENT,
    ]


def test_the_first_message_is_settled_in_any_time() -> None:
    """Else a page could be cut short for ever, with nothing done."""
    window = ConfirmWindow(page(*"ab"))
    window.stop()
    assert send_all(window) == ["0", "1"]
    window.channel_closed("too large")

    assert send_all(window) == ["0"]
    window.ack(1)
    assert window.done
    assert statuses(window) == [Status.CONFIRMED, Status.UNSENT]


def test_what_was_on_its_way_when_the_connection_is_lost_after_the_end_is_unknown() -> None:
    window = ConfirmWindow(page("a", "b"), limit=1)
    send_all(window)
    window.ack(1)
    send_all(window)
    window.stop()

    assert [each.status for each in window.outcomes("lost")] == [Status.CONFIRMED, Status.UNKNOWN]

"""A conversation as a tree of causes: pure, whatever it is given."""

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.extensions.flow import Mood, Stage
from outbox.flow.conversation import FOLDED_FROM, Conversation, Sent, folds


def sent(name: str, cause: str | None = None, position: int | None = None, **others: str) -> Sent:
    return Sent(
        **{"id": name, "source": "/shop", "type": "shop.placed", **others},
        causation_id=cause,
        position=position,
    )


def stage(message: Sent, mood: Mood = Mood.DONE, by: str = "billing.invoice") -> Stage:
    state = {Mood.DONE: "processed", Mood.OPEN: "retrying", Mood.FAILED: "dead"}[mood]
    about = {"message_id": message.id, "source": message.source, "type": message.type}
    return Stage(**about, by=by, group="billing", state=state, mood=mood, error="no money")


def outline(conversation: Conversation) -> list[tuple[int, str]]:
    return [(node.depth, node.sent.id) for node in conversation.nodes()]


def talk(messages: Iterable[Sent], *stages: Stage) -> Conversation:
    return Conversation("flow", messages, stages)


def test_what_was_caused_stands_below_its_cause() -> None:
    """In whatever order it is read, and by its place in the log among equals."""
    messages = [
        sent("a", position=1),
        sent("b", "a", 2),
        sent("c", "b", 5),
        sent("d", "a", 4),
        sent("e", position=3),
    ]
    expected = [(0, "a"), (1, "b"), (2, "c"), (1, "d"), (0, "e")]
    for _ in range(20):
        random.shuffle(messages)
        assert outline(talk(messages)) == expected


def test_what_others_have_sent_comes_behind_what_is_in_the_log() -> None:
    """It has no place in the log; it is known by its receipts."""
    own = sent("b", "x", 7)
    foreign = Sent(id="x", source="/elsewhere", type="other.happened")
    conversation = talk([own, sent("z", position=9)], stage(foreign))

    assert outline(conversation) == [(0, "z"), (0, "x"), (1, "b")]
    assert len(conversation) == 3


def test_an_unknown_cause_keeps_together_what_it_caused() -> None:
    """It is shown as what it is: not known here."""
    conversation = talk([sent("a", "gone", 1), sent("b", "gone", 2)])

    assert outline(conversation) == [(0, "gone"), (1, "a"), (1, "b")]
    assert conversation.roots[0].sent.type == ""


def test_one_id_of_two_sources_is_two_messages() -> None:
    """CloudEvents: an id is unique within its source."""
    conversation = talk([sent("a", position=1), sent("a", position=2, source="/other")])

    assert outline(conversation) == [(0, "a"), (0, "a")]


def test_failures_are_counted_upwards() -> None:
    """Each message once, however many handlers have failed on it."""
    messages = [sent("a", position=1), sent("b", "a", 2), sent("c", "b", 3)]
    conversation = talk(
        messages,
        stage(messages[0]),
        stage(messages[1], Mood.OPEN),
        stage(messages[2], Mood.FAILED),
        stage(messages[2], Mood.FAILED, "shipping.send"),
    )

    assert [node.failed for node in conversation.nodes()] == [1, 1, 1]
    assert conversation.failed == 1


def test_equal_branches_are_folded() -> None:
    """At the place of the first; what differs below, or is of another type, stands alone."""
    many = [sent(f"m{n}", "a", 10 + n) for n in range(FOLDED_FROM + 1)]
    other = sent("other", "a", 11, type="shop.cancelled")
    deeper = [sent("deep", "a", 12), sent("below", "deep", 13)]
    messages = [sent("a", position=1), *many, other, *deeper]
    failed = stage(many[2], Mood.FAILED)
    [root] = talk(messages, failed).roots

    found = [
        ([node.sent.id for node in fold.nodes], len(fold.failed)) for fold in folds(root.children)
    ]
    assert found == [([each.id for each in many], 1), (["other"], 0), (["deep"], 0)]


def test_few_are_not_folded() -> None:
    """As long as they can be read."""
    [root] = talk([sent("a", position=1), *(sent(f"m{n}", "a", n) for n in range(2, 4))]).roots

    assert [len(fold.nodes) for fold in folds(root.children)] == [1, 1]


def test_a_long_chain() -> None:
    """Longer than Python's stack."""
    messages = [sent(f"m{n}", f"m{n - 1}" if n else None, n) for n in range(20_000)]
    conversation = talk(messages)

    assert max(node.depth for node in conversation.nodes()) == 19_999


@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_a_circle_is_cut_open_where_it_began(length: int) -> None:
    """Ids come from outside, too, so causes may go round."""
    circle = [sent(f"m{n}", f"m{(n - 1) % length}", n) for n in range(length)]
    tail = sent("tail", "m0", 99)
    conversation = talk([*circle, tail])

    assert sorted(name for _, name in outline(conversation)) == sorted(
        each.id for each in (*circle, tail)
    )
    assert outline(conversation)[0] == (0, "m0")


NAMES = st.sampled_from([f"m{n}" for n in range(8)])


@given(
    st.lists(st.builds(sent, NAMES, st.none() | NAMES, st.none() | st.integers(1, 20)), max_size=12)
)
def test_nothing_is_lost_or_shown_twice(messages: list[Sent]) -> None:
    """Whatever causes are claimed; and nothing stands before its cause but in a cut circle."""
    conversation = talk(messages)
    shown = [node.sent.id for node in conversation.nodes()]
    known = {each.id for each in messages}

    assert len(shown) == len(set(shown))
    assert known <= set(shown)
    assert len(conversation) == len(known)
    seen: set[str] = set()
    heads = {root.sent.id for root in conversation.roots}
    for node in conversation.nodes():
        cause = node.sent.causation_id
        # Behind its cause, but where a circle was cut open.
        assert cause in seen or node.sent.id in heads
        seen.add(node.sent.id)
        assert all(child.depth == node.depth + 1 for child in node.children)
        assert all(child.sent.causation_id == node.sent.id for child in node.children)

"""A page in pieces: what may go next."""

from hypothesis import given
from hypothesis import strategies as st

from outbox.message.envelope import Envelope
from relay.brokers.base import CONFIRMED, Outcome, Status
from relay.pieces import Pieces

LOST = Outcome(Status.UNKNOWN, "no word")


def page(*keys: str | None, topic: str = "t") -> list[Envelope]:
    return [
        Envelope(id=str(n), source="/t", type="t", data=b"", key=key, topic=topic)
        for n, key in enumerate(keys)
    ]


def test_pieces_grow_while_all_goes_well() -> None:
    """One, two, four: a broker that is back soon gets whole pages again."""
    pieces = Pieces(page(*[None] * 10), {}, hold=True)
    sizes = []
    while piece := pieces.next(0):
        sizes.append(len(piece))
        assert pieces.settle(piece, [CONFIRMED] * len(piece))

    assert sizes == [1, 2, 4, 3]
    assert pieces.outcomes() == [CONFIRMED] * 10


def test_a_piece_that_fails_is_tried_one_by_one() -> None:
    """What was confirmed of it is not sent again."""
    pieces = Pieces(page(*[None] * 4), {}, hold=True)
    pieces.settle(pieces.next(0), [CONFIRMED])
    assert pieces.settle([1, 2], [LOST, CONFIRMED])

    assert pieces.next(0) == [1]


def test_what_is_behind_something_unknown_of_its_key_waits() -> None:
    """It is neither sent nor held for good."""
    suspects: dict[str, int] = {}
    pieces = Pieces(page("a", "a", "b"), suspects, hold=True)
    assert pieces.next(0) == [0]
    assert not pieces.settle([0], [LOST])
    suspects["0"] = 0

    assert pieces.next(0) == [2]
    pieces.settle([2], [CONFIRMED])
    assert pieces.next(0) == []
    assert pieces.next(1) == [0]
    pieces.refuse(0, "again")
    assert [each.status for each in pieces.outcomes()] == [
        Status.REFUSED,
        Status.HELD,
        Status.CONFIRMED,
    ]


def test_a_probe_is_of_another_topic_if_there_is_any() -> None:
    """What cannot be sent often has its topic in common."""
    messages = [*page(*[None] * 50), Envelope(id="x", source="", type="", data=b"", topic="other")]
    suspects: dict[str, int] = {}
    pieces = Pieces(messages, suspects, hold=True)
    pieces.settle(pieces.next(0), [LOST])
    suspects["0"] = 0

    assert pieces.next(0, probe=True) == [50]


def test_without_holding_a_refused_message_is_overtaken() -> None:
    pieces = Pieces(page("a", "a"), {}, hold=False)
    pieces.settle(pieces.next(0), [Outcome(Status.REFUSED, "")])
    piece = pieces.next(0)
    pieces.settle(piece, [CONFIRMED])

    assert [each.status for each in pieces.outcomes()] == [Status.REFUSED, Status.CONFIRMED]


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.booleans()), max_size=30),
    st.booleans(),
)
def test_whatever_fails_each_key_keeps_its_order(
    drawn: list[tuple[str | None, bool]], hold: bool
) -> None:
    """It ends; of a key that is held, nothing goes that stands behind something not confirmed."""
    messages = page(*[key for key, _ in drawn])
    bad = {str(n) for n, (_, fails) in enumerate(drawn) if fails}
    suspects: dict[str, int] = {}
    pieces, passes, confirmed = Pieces(messages, suspects, hold=hold), 0, []
    while piece := pieces.next(passes, probe=bool(suspects)):
        sent = [messages[index] for index in piece]
        fails = any(each.id in bad for each in sent)
        outcomes = [LOST] * len(sent) if fails else [CONFIRMED] * len(sent)
        passes += not fails
        if not fails:
            confirmed += piece
        if not pieces.settle(piece, outcomes):
            if suspects.get(sent[0].id, passes) < passes:
                pieces.refuse(piece[0], "again")
            suspects[sent[0].id] = passes

    for key in "abc" if hold else "":
        mine = [index for index in confirmed if messages[index].key == key]
        assert mine == sorted(mine)
        first_bad = [n for n, each in enumerate(messages) if each.key == key and each.id in bad][:1]
        assert all(index < stop for index in mine for stop in first_bad)
    told = pieces.outcomes()
    assert {n for n, each in enumerate(told) if each == CONFIRMED} == set(confirmed)
    for index, outcome in enumerate(told):
        if outcome.status is Status.REFUSED:
            assert str(index) in bad

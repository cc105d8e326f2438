"""What a page shows of a conversation: bounded, the worst first, and the rest is a link away."""

import random

from outbox.extensions.flow import Mood
from outbox.flow.conversation import Conversation, Sent
from outbox.flow.outline import DEEP, FAILED_SHOWN, SHOWN, Item, outline
from tests.outbox.flow.test_conversation import sent, stage, talk


def shown(conversation: Conversation, **options: object) -> list[tuple[int, str, int]]:
    """Level, id and number of messages of all that is shown."""
    items = outline(conversation, **options).items()  # type: ignore[arg-type]
    return [(item.level, item.id, len(item.fold.nodes)) for item in items]


def many(count: int, failed: range = range(0)) -> Conversation:
    rows = [sent(f"m{n}", "a", n) for n in range(2, count + 2)]
    stages = [stage(row, Mood.FAILED if n in failed else Mood.DONE) for n, row in enumerate(rows)]
    return talk([sent("a", position=1), *rows], *stages)


def test_a_few_messages_are_all_shown() -> None:
    """In the order of their causes, and numbered from top to bottom."""
    conversation = talk([sent("a", position=1), sent("b", "a", 2), sent("c", "b", 3), sent("d")])
    found = outline(conversation)

    assert shown(conversation) == [(0, "a", 1), (1, "b", 1), (2, "c", 1), (0, "d", 1)]
    assert [item.number for item in found.items()] == [1, 2, 3, 4]
    assert [item.id for item in found.by_depth()] == ["a", "d", "b", "c"]
    assert found.top.left == 0


def test_many_of_one_shape_are_one_with_those_that_failed_below() -> None:
    """A few of them, to be mended from there."""
    found = shown(many(1240, failed=range(100, 110)))

    assert found[:2] == [(0, "a", 1), (1, "m2", 1240)]
    assert found[2:] == [(2, f"m{n}", 1) for n in range(102, 102 + FAILED_SHOWN)]


def test_a_fold_can_be_opened() -> None:
    """As many as a page shows, and then the next ones, until all were shown."""
    conversation = many(1240)
    seen: list[str] = []
    at, start = "", 0
    for _ in range(10):
        found = outline(conversation, at=at, start=start, unfold=["m2"])
        items = list(found.items())
        assert len(items) <= SHOWN
        seen += [item.id for item in items if item.id != "a"]
        parent = found.top if at else items[0]
        at, start = "a", parent.start
        if not parent.left:
            break

    assert seen == [f"m{n}" for n in range(2, 1242)]


def test_what_failed_is_not_left_out() -> None:
    """However far away it is, and however much there is before it."""
    noise = [sent(f"n{n}", position=n, type=f"t{n}") for n in range(1, 1000)]
    chain = [sent("x", position=2000), sent("y", "x", 2001), sent("z", "y", 2002)]
    conversation = talk([*noise, *chain], stage(chain[-1], Mood.FAILED))
    found = outline(conversation)
    ids = [item.id for item in found.items()]

    assert len(ids) == SHOWN
    assert ids[-3:] == ["x", "y", "z"]
    assert found.top.left == 1000 - (SHOWN - 2)
    assert found.top.start == SHOWN - 3


def test_a_long_chain_goes_on_with_a_page_of_its_own() -> None:
    """From the last message that is shown; what led to that is named."""
    chain = [sent("m1", position=1), *(sent(f"m{n}", f"m{n - 1}", n) for n in range(2, 5001))]
    conversation = talk(chain)
    first = outline(conversation)
    *_, last = first.items()

    assert (last.level, last.left) == (DEEP - 1, 1)
    found = outline(conversation, at=last.id)
    assert next(found.items()).id == last.id
    assert found.cause is not None
    assert found.cause.sent.id == f"m{DEEP - 1}"


def test_a_place_that_is_not_there() -> None:
    """Shows the whole, and says so."""
    found = outline(many(3), at="nowhere")

    assert found.at is None
    assert len(list(found.items())) == 4


def test_a_summary_of_a_fold() -> None:
    """How many are in which state with each handler, and the worst of it."""
    [_, fold, *_] = outline(many(10, failed=range(3))).items()
    [summary] = fold.summaries()

    assert (summary.text, summary.mood) == ("7 processed, 3 dead", Mood.FAILED)


def test_whatever_it_is_given() -> None:
    """Each message is shown, in a fold, or counted where it is missing; never more than asked."""
    rng = random.Random(7)
    for _ in range(60):
        names = [f"m{n}" for n in range(rng.randrange(1, 120))]
        rows = [
            Sent(
                id=name,
                source=rng.choice("ab"),
                type=rng.choice("xyz"),
                causation_id=rng.choice([*names, None, "gone"]),
                position=n if rng.random() < 0.8 else None,
            )
            for n, name in enumerate(names)
        ]
        stages = [stage(row, rng.choice(list(Mood))) for row in rows]
        conversation = talk(rows, *stages)
        most = rng.randrange(1, 60)
        found = outline(conversation, most=most, at=rng.choice(["", *names]))
        items = list(found.items())

        assert 0 < len(items) <= most
        assert [item.number for item in items] == list(range(1, len(items) + 1))
        for item in items:
            assert item.left >= 0
            check_order(item)


def check_order(item: Item) -> None:
    places = [child.index for child in item.children]
    assert places == sorted(set(places))

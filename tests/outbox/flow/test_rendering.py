"""A conversation as text and as a Mermaid diagram."""

from dataclasses import replace

from outbox.extensions.flow import Mood, Stage
from outbox.flow import sequence, tree
from outbox.flow.conversation import Conversation, Sent
from tests.outbox.flow.test_conversation import sent, stage, talk


def shown(conversation: Conversation, *, unfold: bool = False) -> list[str]:
    return list(tree.render(conversation, unfold=unfold))


def test_a_tree() -> None:
    """What became of a message stands below it, before what it caused."""
    placed = sent("a", position=1, key="42")
    billed = sent("b", "a", 2, type="billing.billed", source="/billing")
    conversation = talk(
        [placed, billed, sent("c", "b", 3)], stage(placed), stage(billed, Mood.FAILED)
    )

    assert shown(conversation) == [
        "Conversation flow: 3 messages, 1 failed",
        "└─ shop.placed  42  from /shop  a",
        "   │ ✓ billing.invoice: processed",
        "   └─ billing.billed  from /billing  b",
        "      │ ✗ billing.invoice: dead  no money",
        "      └─ shop.placed  from /shop  c",
    ]


def test_many_of_one_shape() -> None:
    """Are one line, with how many failed and which; one by one if somebody wants to see them."""
    many = [sent(f"m{n}", "a", n) for n in range(2, 1242)]
    conversation = talk(
        [sent("a", position=1), *many],
        *(stage(each, Mood.FAILED) for each in many[5:12]),
        *(stage(each, Mood.OPEN) for each in many[20:23]),
        stage(many[0]),
    )

    assert shown(conversation)[2:] == [
        "   └─ shop.placed  × 1,240, 7 failed, 3 not over, such as m2",  # noqa: RUF001
        "        ✗ billing.invoice: 7 dead, 3 retrying, 1 processed",
        "        failed: m7, m8, m9 …",
    ]
    assert len(shown(conversation, unfold=True)) == 2 + len(many) + 11


def test_what_is_not_known_is_said() -> None:
    """A cause elsewhere, and messages beyond the limit."""
    conversation = Conversation("flow", [sent("a", "gone", 1)], cut_at=1)

    assert shown(conversation) == [
        "Conversation flow: 1 message",
        "There are more: these are the first 1.",
        "└─ gone  not known here",
        "   └─ shop.placed  from /shop  a",
    ]


def test_a_long_error_is_one_short_line() -> None:
    """Whatever a handler raised."""
    placed = sent("a", position=1)
    error = Stage(
        message_id="a",
        source="/shop",
        type=placed.type,
        by="billing.invoice",
        state="retrying",
        mood=Mood.OPEN,
        attempts=3,
        error="first\nsecond " + "x" * 1000,
    )
    line = shown(talk([placed], error))[2]

    assert line.startswith("     … billing.invoice: retrying  3 attempts  first second xxx")
    assert len(line) < 200


def test_a_terminal_obeys_nothing_of_it() -> None:
    """Colours, titles and bells of other services are shown, not done."""
    lines = shown(talk([sent("a", position=1, type="t\x1b]0;title\x07", key="k\r\n\u202ex")]))

    assert lines[1] == "└─ t\\x1b]0;title\\x07  k\\r\\n\\u202ex  from /shop  a"


def test_a_sequence_diagram() -> None:
    """Lifelines are sources and groups; what was not received by anyone is an open arrow."""
    placed = sent("a", position=1, key="42")
    billed = sent("b", "a", 2, type="billing.billed")
    conversation = talk([placed, billed], stage(placed, Mood.FAILED))

    assert list(sequence.render(conversation)) == [
        "sequenceDiagram",
        "    participant p0 as /shop",
        "    participant p1 as billing",
        "    p0-xp1: shop.placed 42 (billing.invoice: dead)",
        "    p0--)p0: billing.billed",
    ]


def test_who_received_it_is_in_the_picture_though_gone() -> None:
    """A handler that is not in the code has no group, and its own name for a lifeline."""
    placed = sent("a", position=1)
    gone = Stage(
        message_id="a",
        source="/shop",
        type=placed.type,
        by="gone.handler",
        group="",
        state="dead",
        mood=Mood.FAILED,
    )
    lines = list(sequence.render(talk([placed], gone)))

    assert lines[2:] == [
        "    participant p1 as gone.handler",
        "    p0-xp1: shop.placed (gone.handler: dead)",
    ]


def test_what_another_service_tells_is_told_as_its() -> None:
    """A handler of the same name may be here as well."""
    placed = sent("a", position=1)
    theirs = replace(stage(placed, Mood.FAILED), peer="far")
    conversation = talk([placed], stage(placed), theirs)

    assert shown(conversation)[2:] == [
        "     ✓ billing.invoice: processed",
        "     ✗ far ▸ billing.invoice: dead  no money",
    ]
    assert list(sequence.render(conversation))[2:] == [
        "    participant p1 as billing",
        "    participant p2 as far: billing",
        "    p0->>p1: shop.placed",
        "    p0-xp2: shop.placed (billing.invoice: dead)",
    ]


def test_tasks_are_told_apart() -> None:
    """They have one type, and the names of their functions."""
    tasks = [
        replace(sent(f"t{n}", type="celery.task"), name=f"shop.{'ab'[n % 2]}") for n in range(10)
    ]
    lines = shown(talk(tasks))

    assert [line.split("  ")[0] for line in lines[1:]] == ["├─ shop.a", "└─ shop.b"]


def test_hostile_texts_are_no_syntax() -> None:
    """Types, keys and sources come from outside, too."""
    evil = Sent(id="a", source="x;\nend", type="t%%{init}%%", key="<b>#", position=1)
    lines = list(sequence.render(talk([evil])))

    assert lines[1] == "    participant p0 as x#59; end"
    assert lines[2] == "    p0--)p0: t#37;#37;#123;init#125;#37;#37; #60;b#62;#35;"


def test_too_many_arrows_to_draw() -> None:
    """No renderer makes a picture of thousands."""
    conversation = talk(sent(f"m{n:04}", position=n, source=f"/{n}") for n in range(1, 1001))
    lines = list(sequence.render(conversation))

    assert len(lines) == 1 + 2 * sequence.MAX_ARROWS + 1
    assert lines[-1].endswith("and 800 more")

"""What several services know of a conversation becomes one picture."""

from dataclasses import replace

import pytest

from outbox.exceptions import UnknownConversation
from outbox.extensions.flow import Mood
from outbox.flow.halves import Half, joined
from tests.outbox.flow.test_conversation import outline, sent, stage


def test_what_another_service_knows_fills_the_gap() -> None:
    """A message that is a receipt here, and a message there, stands below its cause."""
    placed = sent("a", position=1)
    billed = sent("b", "a", source="/billing", type="billing.billed")
    shipped = sent("c", "b", 2)
    ours = Half(
        correlation_id="flow", sent=[placed, shipped], stages=[stage(billed, by="shop.book")]
    )
    theirs = Half(correlation_id="flow", sent=[billed], stages=[stage(placed, Mood.FAILED)])

    assert outline(joined(ours)) == [(0, "a"), (0, "b"), (1, "c")]
    both = joined(ours, [theirs])
    assert outline(both) == [(0, "a"), (1, "b"), (2, "c")]
    assert both.failed == 1


def test_of_our_own_messages_our_log_is_right() -> None:
    """Another service may lie about them, and changes nothing."""
    ours = Half(correlation_id="flow", sent=[sent("a", position=1, key="42")])
    lie = Half(correlation_id="flow", sent=[sent("a", "x", key="43"), sent("x", type="lie")])

    found = joined(ours, [lie])
    assert [node.sent.key for node in found.nodes()] == ["42", None]
    assert outline(found) == [(0, "a"), (0, "x")]


def test_what_somebody_may_not_see_is_left_out() -> None:
    """Also the messages that are known by nothing else."""
    placed, foreign = sent("a", position=1), sent("f", source="/far")
    half = Half(
        correlation_id="flow",
        sent=[placed],
        stages=[
            replace(stage(placed), of="django_relay.parked"),
            replace(stage(foreign, Mood.FAILED), of="django_inbox.receipt"),
        ],
    )

    seen = joined(half.seen_by(lambda stage: stage.of == "django_relay.parked"))
    assert outline(seen) == [(0, "a")]
    assert len(next(seen.nodes()).stages) == 1


def test_nobody_knows() -> None:
    """Then there is no conversation."""
    nothing = Half(correlation_id="flow")

    with pytest.raises(UnknownConversation, match="flow"):
        joined(nothing, [nothing])

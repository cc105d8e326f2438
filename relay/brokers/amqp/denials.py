"""Whether denials of access are about a message of the page, or about what we may do at all."""

from collections.abc import Sequence

from relay.brokers.amqp.window import ConfirmWindow
from relay.brokers.base import Outcome, Status


def is_about_us(window: ConfirmWindow, denials: Sequence[str]) -> bool:
    """Tell whether denials of a page are for what we may do at all, not for a message.

    If nothing else passes they are, unless it is one topic that the broker names in all of them.
    """
    if not denials or window.confirmed:
        return False
    return len(set(denials)) > 1 or "access to topic '" not in denials[0]


def unblamed(
    window: ConfirmWindow, denials: Sequence[str], outcomes: list[Outcome]
) -> list[Outcome]:
    """Blame no message for a denial that is about us."""
    if not is_about_us(window, denials):
        return outcomes
    return [
        Outcome(Status.UNKNOWN, each.reason) if each.reason in denials else each
        for each in outcomes
    ]

"""How a request ends, which it does once; where an acknowledgement or a break stands."""

from collections.abc import Mapping

from django.db import models
from django.utils.translation import gettext_lazy as _

from outbox.message.acknowledgements import Told


class Outcome(models.TextChoices):
    """The one end of a request."""

    ANSWERED = "answered", _("answered")
    FAILED = "failed", _("failed")
    EXPIRED = "expired", _("expired")
    CANCELLED = "cancelled", _("cancelled")


PENDING = "pending"
"""What a request is that has not ended."""


class Acknowledged(models.TextChoices):
    """Where a message stands with a group that is to acknowledge it, as its sender knows it."""

    AWAITED = "awaited", _("awaited")
    """Nothing was told yet, and there is time."""
    HANDLED = "handled", _("handled")
    SKIPPED = "skipped", _("skipped")
    DEAD = "dead", _("dead")
    MISSING = "missing", _("missing")
    """Nothing was told, and it was sent again as often as is allowed."""
    GIVEN_UP = "given_up", _("given up")
    """Nobody waits for it any more: a person has said so, or its message is gone."""


_UNTOLD = (Acknowledged.AWAITED, Acknowledged.MISSING, Acknowledged.GIVEN_UP)

# What was told only ever gets better. So it is the same in whatever order it comes, and however
# often: one acknowledgement may overtake another, and be delivered twice.
REPLACES: Mapping[str, tuple[Acknowledged, ...]] = {
    Told.HANDLED: (*_UNTOLD, Acknowledged.DEAD, Acknowledged.SKIPPED),
    Told.SKIPPED: (*_UNTOLD, Acknowledged.DEAD),
    Told.DEAD: _UNTOLD,
    Told.KEPT: (Acknowledged.AWAITED, Acknowledged.MISSING),  # which is waited for again
}
"""What a group tells, and in which states that changes something."""


class Hold(models.TextChoices):
    """Why a message is not sent again to a group, though its time has passed."""

    UNPUBLISHED = "unpublished", _("it is not published yet")
    NO_QUEUE = "no_queue", _("the queue does not exist")
    NO_CONSUMER = "no_consumer", _("nobody consumes the queue")
    BACKLOG = "backlog", _("the queue has a backlog")
    KEPT = "kept", _("the group retries it, or lets it wait")
    REFUSED = "refused", _("the broker refused it")
    GONE = "gone", _("its message is gone")


class BreakKind(models.TextChoices):
    """What two services do not say the same of."""

    MISSING = "missing", _("missing there")
    UNKNOWN = "unknown", _("unknown here")
    UNSETTLED = "unsettled", _("unsettled")
    TWICE = "twice", _("counted twice")
    MEASURE = "measure", _("business totals")


class BreakState(models.TextChoices):
    """Where a break stands."""

    IN_TRANSIT = "in_transit", _("in transit")
    OPEN = "open", _("open")
    REPAIRED = "repaired", _("repaired")
    ACCEPTED = "accepted", _("accepted")

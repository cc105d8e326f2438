"""What the relays owe, in numbers for monitoring."""

from collections.abc import Iterable, Iterator

from outbox.extensions.gauges import Gauge, Meter, Reading, register_meter
from relay.reports.status import COUNTED, LaneStatus, lanes

_LANE = ("relay", "lane")
PENDING = Gauge("relay_pending_messages", _LANE, "messages to publish; counted up to 10,001")
OLDEST = Gauge(
    "relay_oldest_pending_seconds", _LANE, "age of the oldest message to publish, by its time"
)
CHECKPOINT = Gauge("relay_checkpoint_age_seconds", _LANE, "time since the relay's last checkpoint")
PARKED = Gauge(
    "relay_parked_messages",
    ("relay", "lane", "state"),
    "messages that are out of the flow and owed: parked, waiting or dead; up to 10,001 a relay",
)


def read(using: str) -> Iterator[Reading]:
    """Read how far each relay is in each lane, a few statements a lane."""
    return readings(bounded(using))


def bounded(using: str) -> list[LaneStatus]:
    """Return how far each relay is in each lane, with nothing counted without a bound."""
    return lanes(using, most_parked=COUNTED + 1)


def readings(found: Iterable[LaneStatus]) -> Iterator[Reading]:
    """Return the readings of what was found.

    What cannot be told is not there: the backlog of a cursor of another database cluster. Of a
    relay that is in no settings any more there is only what it has parked.
    """
    for each in found:
        lane = each.relay, str(each.lane)
        if each.configured and each.backlog is not None:
            yield Reading(PENDING, lane, each.backlog)
            yield Reading(OLDEST, lane, each.oldest_pending or 0.0)
        if each.configured and each.last_checkpoint is not None:
            yield Reading(CHECKPOINT, lane, each.last_checkpoint)
        for state in ("parked", "waiting", "dead"):
            yield Reading(PARKED, (*lane, state), getattr(each, state))


def register() -> None:
    """Let metrics have these gauges."""
    register_meter(Meter("relay", (PENDING, OLDEST, CHECKPOINT, PARKED), read))

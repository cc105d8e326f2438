"""What relays have published in the last day or week, by their checkpoints."""

from collections.abc import Sequence

from outbox.reports.history import Period, Step, history
from relay.models import Checkpoint


def published(using: str, period: Period) -> list[Step]:
    """Return the checkpoints of each step: relay and number of messages. Two statements."""
    checkpoints = Checkpoint.objects.using(using)
    return history(checkpoints, period, ["relay", "count"], time=["created"])


def by_relay(steps: Sequence[Step], names: Sequence[str]) -> dict[str, list[float]]:
    """Return how many messages each relay has published in each step, by its name.

    `names` come first, whether they have published anything or not.
    """
    found = dict.fromkeys([*names, *sorted({relay for each in steps for relay, _ in each.rows})])
    return {
        name: [
            float(step.total(count for relay, count in step.rows if relay == name))
            for step in steps
        ]
        for name in found
    }

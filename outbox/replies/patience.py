"""After how long it is worth asking again how a request stands: what others took tells."""

import math
from collections.abc import Sequence
from datetime import timedelta

from outbox.models import Request, Settlement
from outbox.states import Outcome

LOOKED_AT = 200
"""Requests, the latest of all types, among which those of a type are looked for."""
USED = 50
"""Of those, the latest of the type that count."""
LEAST, MOST = 1, 300
"""Seconds."""


def pause(times: Sequence[float], waited: float, left: float) -> int:
    """Return after how many seconds to ask again, from 1 to 300.

    `times` are the seconds that others took until they were answered, `waited` those that this one
    has taken so far, and `left` those until its deadline. Of the others that took longer than it
    has taken, half were answered by then. Without any, it is half of what it has taken.
    """
    longer = sorted(each for each in times if each > waited)
    expected = longer[(len(longer) - 1) // 2] - waited if longer else waited / 2
    return max(LEAST, math.ceil(min(expected, left, MOST)))


def answer_times(name: str, using: str) -> list[float]:
    """Return how many seconds requests of a type took lately until they were answered.

    Looks at a bounded number of rows, however many there are.
    """
    latest = Request.objects.using(using).order_by("-pk").values("pk")[:LOOKED_AT]
    answered = Settlement.objects.using(using).filter(
        request__in=latest, outcome=Outcome.ANSWERED, request__type=name
    )
    times = answered.order_by("-request").values_list("request__asked_at", "settled_at")
    return [(settled - asked) / timedelta(seconds=1) for asked, settled in times[:USED]]

import os
from dataclasses import dataclass
from datetime import timedelta

import outbox

GROUPS = ["billing", "shipping"]


@outbox.event(
    "post.parcel",
    key="number",
    acknowledge=outbox.Acknowledge(
        groups=GROUPS,
        within=timedelta(seconds=float(os.environ["WITHIN"])),
        resends=20,
        queues={group: os.environ["PREFIX"] + group for group in GROUPS},
    ),
)
@dataclass(frozen=True, slots=True)
class Parcel:
    number: int

"""What the doctor asks about open requests: whether somebody answers them in time."""

from collections.abc import Iterator
from datetime import timedelta

from django.db import router
from django.db.models import F

from inbox.models import OpenRequest
from outbox.database import instants
from outbox.extensions.diagnosis import Finding, Level
from outbox.nouns import counted

COUNTED = 1000
"""Rows that are looked at at most, those that have been open for the longest time."""
LEFT = 0.1
"""The share of its time that a request has left when it is told."""


def examine() -> Iterator[Finding]:
    """Tell of open requests whose deadline is near or past, and that nobody has answered."""
    rows = OpenRequest.objects.using(router.db_for_write(OpenRequest))
    timed = rows.filter(expires_at__isnull=False, expires_at__gt=F("opened_at"))
    now = instants.now()
    oldest = timed.order_by("opened_at").values_list("type", "opened_at", "expires_at")
    late: dict[str, timedelta] = {}
    near = past = 0
    for request_type, opened, expires in oldest[:COUNTED]:
        assert expires is not None  # it was asked for
        left = instants.utc(expires) - now
        if left > (instants.utc(expires) - instants.utc(opened)) * LEFT:
            continue
        past += left <= timedelta(0)
        near += left > timedelta(0)
        late[request_type] = min(left, late.get(request_type, left))
    if not late:
        return
    names = sorted(late, key=lambda name: late[name])[:5]
    yield Finding(
        level=Level.WARNING,
        id="inbox.unanswered",
        title="Open requests are not answered in time",
        text=f"{counted(near, 'request is', 'requests are')} near the deadline, {past:,} past it: "
        f"{', '.join(names)}.",
        hint="Answer them: in the admin under Open requests, with 'manage.py inbox_answer', or by "
        "whatever was to call inbox.answer(). What is past its deadline changes nothing any more.",
        figures={"near": near, "past": past},
    )

"""The page about reconciliation: days and hours, then buckets and types, then one bucket."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client, override_settings
from django.utils import timezone

from outbox.extensions.diagnosis import examine
from outbox.models import Break, BucketTotal, Reconciliation, ToState
from outbox.statements import reading
from outbox.statements.buckets import HOUR, MINUTE, floor, milliseconds
from outbox.statements.reading import Span, Step
from tests.kit.admin_pages import counted, log_in, page, shown

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]
PAGE = "/admin/django_outbox/messaging/reconciliation/"
NOW = floor(milliseconds(timezone.now()), HOUR) - 2 * HOUR


@pytest.fixture(autouse=True)
def _in_utc() -> Iterator[None]:
    with timezone.override("UTC"):
        yield


@pytest.fixture
def staff(client: Client) -> Client:
    log_in(client, "django_outbox.reconciliation", "django_outbox.break")
    return client


def compared(group: str = "billing", until: int = NOW + HOUR) -> Reconciliation:
    return Reconciliation.objects.create(
        group=group, closed=until, stated=until, answered_at=timezone.now()
    )


def total(start: int, count: int = 1, type_: str = "a.b", revision: int = 1) -> BucketTotal:
    return BucketTotal.objects.create(
        group="billing", start=start, type=type_, count=count, digest="ab" * 32, revision=revision
    )


def broken(start: int, state: str = "open", kind: str = "missing", type_: str = "a.b") -> Break:
    return Break.objects.create(
        group="billing",
        kind=kind,
        message_id=f"m{start}{state}",
        type=type_,
        start=start,
        state=state,
    )


def steps(row: Reconciliation, *starts: int) -> list[Step]:
    edges = [(start, start + HOUR) for start in starts]
    return [each.step for each in reading.spans(row, edges, "default")]


def test_how_an_hour_stands() -> None:
    """By the worst that is in it; what is not stated yet, or not answered, is only closed."""
    row = compared(until=NOW)
    times = [NOW - number * HOUR for number in range(8, 0, -1)]
    for time in times[1:]:
        total(time)
    ToState.objects.create(group="billing", since=times[2], until=times[2] + MINUTE, width=MINUTE)
    for time, state in zip(times[3:7], ("repaired", "accepted", "in_transit", "open"), strict=True):
        broken(time, state)
    broken(times[6], "accepted")
    assert steps(row, *times) == [
        Step.NOTHING,
        Step.IN_STEP,
        Step.CLOSED,
        Step.IN_STEP,
        Step.ACCEPTED,
        Step.IN_TRANSIT,
        Step.BROKEN,
        Step.IN_STEP,
    ]
    row.stated = times[1]
    assert steps(row, times[1]) == [Step.CLOSED]
    row.closed = times[1] + MINUTE
    assert steps(row, times[1], times[2]) == [Step.RUNNING, Step.RUNNING]


def test_the_last_revision_counts() -> None:
    """Of each bucket and type; a bucket belongs to where it begins."""
    row = compared()
    total(NOW, 5)
    total(NOW, 6, revision=2)
    total(NOW, 7, revision=3)
    total(NOW + 59 * MINUTE, 10)
    total(NOW + HOUR, 100)
    edges = [(NOW, NOW + HOUR), (NOW + HOUR, NOW + 2 * HOUR)]
    assert [each.messages for each in reading.spans(row, edges, "default")] == [17, 100]
    [of_type] = reading.grid(row, NOW, NOW + HOUR, MINUTE, "default")
    assert (of_type.messages, of_type.revisions) == (17, 2)
    assert [each.messages for each in of_type.buckets if each.messages] == [7, 10]


def test_a_statement_of_another_type_keeps_no_bucket_open() -> None:
    """One of all types keeps each."""
    row = compared()
    total(NOW), total(NOW, type_="c.d")
    about = {"group": "billing", "since": NOW, "until": NOW + MINUTE, "width": MINUTE}
    asked = ToState.objects.create(type="a.b", **about)

    def found() -> list[Step]:
        rows = reading.grid(row, NOW, NOW + HOUR, MINUTE, "default")
        return [each.buckets[0].step for each in rows]

    assert found() == [Step.CLOSED, Step.IN_STEP]
    asked.type = ""
    asked.save()
    assert found() == [Step.CLOSED, Step.CLOSED]


def test_from_the_calendar_to_the_two_sides(staff: Client) -> None:
    """Each page leads to the next, and back."""
    compared()
    total(NOW + MINUTE, 41), total(NOW + MINUTE, 1, type_="c.d")
    found = broken(NOW + MINUTE)
    text = page(staff, PAGE, counts=True)
    hour = f"?hour={NOW}"
    assert f"{PAGE}billing/{hour}" in text
    assert "break, 42 messages" in text

    text = page(staff, f"{PAGE}billing/{hour}", counts=True)
    assert "outbox-span-broken" in text
    assert "41 messages" in shown(text)
    assert "type%3Aa.b+state%3Aopen" in text
    bucket = f"?hour={NOW}&amp;bucket={NOW + MINUTE}"
    assert f"{PAGE}billing/{bucket}" in text

    text = page(staff, f"{PAGE}billing/{bucket.replace('&amp;', '&')}", counts=True)
    assert f"/admin/django_outbox/break/{found.pk}/change/" in text
    assert f"{PAGE}billing/{hour}" in text
    assert "in step" in shown(text)  # the other type
    assert "Repair" not in text
    User.objects.get().user_permissions.add(Permission.objects.get(codename="repair_break"))
    text = page(staff, f"{PAGE}billing/{bucket.replace('&amp;', '&')}", counts=True)
    assert "Repair" in text


def test_many_groups_and_days(staff: Client) -> None:
    """Tabs for groups, links to earlier days; the same statements whatever there is."""
    compared(), compared("shipping")
    few = counted(staff, PAGE, counts=True)[1]
    for number in range(200):
        total(NOW - number * 10 * MINUTE)
        broken(NOW - number * 10 * MINUTE)
    text, statements = counted(staff, PAGE, counts=True)
    assert statements <= few
    assert 'href="/admin/django_outbox/messaging/reconciliation/shipping/"' in text
    day = (timezone.now() - timedelta(days=8)).date()
    assert f"?day={day}" in text
    earlier = page(staff, f"{PAGE}billing/?day={day}", counts=True)
    assert "Later" in shown(earlier)
    assert "break, " not in earlier
    for query in ("?day=2026-13-99", "?hour=x", f"?bucket={10**20}", "?day=0001-01-01"):
        assert "Days and hours" in shown(page(staff, f"{PAGE}billing/{query}", counts=True))
    assert staff.get(f"{PAGE}nobody/").status_code == 404


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kolkata", "America/St_Johns"])
def test_hours_are_those_of_the_zone(staff: Client, zone: str) -> None:
    """Also where they begin at other times than those of UTC, and on days of 23 and 25 hours."""
    compared()
    total(NOW + 31 * MINUTE)
    with override_settings(TIME_ZONE=zone):
        assert "in step, 1 message" in page(staff, PAGE, counts=True)
        for day in ("2026-03-31", "2026-10-31"):
            page(staff, f"{PAGE}billing/?day={day}", counts=True)


def test_without_groups_it_says_why(staff: Client) -> None:
    """Nothing is set, or nothing has run yet."""
    assert "RECONCILE is not set" in shown(page(staff, PAGE))
    with override_settings(RECONCILE={"billing": {}}):
        assert "No round has been run yet" in shown(page(staff, PAGE))


def test_it_takes_permissions(client: Client) -> None:
    """To view breaks and reconciliations."""
    compared()
    log_in(client, "django_outbox.break")
    assert client.get(PAGE).status_code == 404


def test_findings_lead_to_it(staff: Client) -> None:
    """Both, to the group that they are about."""
    compared()
    broken(NOW)
    with override_settings(RECONCILE={"billing": {}}):
        found = {each.id: each.page for each in examine("default")}
    assert found["outbox.breaks"] == found["outbox.statements"] == "reconciliation/billing/"


def test_a_span_without_messages_is_nothing() -> None:
    """Also one that is still to come."""
    span = Span(NOW + 5 * HOUR, NOW + 6 * HOUR)
    span.settle(compared(), [])
    assert span.step is Step.NOTHING

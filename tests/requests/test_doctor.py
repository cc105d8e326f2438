"""The doctor tells of requests that nobody answers, on both sides."""

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from inbox.models import OpenRequest
from inbox.replies import waiting
from outbox.extensions.diagnosis import Finding
from outbox.models import Request, Settlement
from outbox.replies import endings
from outbox.states import Outcome

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]


def ended(*outcomes: Outcome, type: str = "pricing.quote", ago: timedelta = timedelta(0)) -> None:
    now = timezone.now() - ago
    for outcome in outcomes:
        request = Request.objects.create(
            message_id=uuid.uuid4(),
            type=type,
            version=1,
            correlation_id="c",
            wanted=1,
            asked_at=now,
            deadline=now,
            expiry_id=uuid.uuid4(),
        )
        Settlement.objects.create(request=request, outcome=outcome, settled_at=now)


def opened(left: timedelta | None, *, of: timedelta = timedelta(hours=1)) -> None:
    now = timezone.now()
    OpenRequest.objects.create(
        message_id=str(uuid.uuid4()),
        source="/s",
        type="pricing.discount",
        version=1,
        handler="h",
        correlation_id="c",
        opened_at=now if left is None else now + left - of,
        expires_at=None if left is None else now + left,
    )


def one(found: Callable[[], Iterator[Finding]]) -> Finding:
    [finding] = found()
    return finding


def test_requests_that_are_seldom_answered() -> None:
    """More that failed or expired than were answered, within a day, by type."""
    ended(*[Outcome.ANSWERED] * 3, *[Outcome.EXPIRED] * 2, Outcome.FAILED, type="pricing.fine")
    ended(*[Outcome.EXPIRED] * 2, *[Outcome.CANCELLED] * 5, type="pricing.few")
    ended(*[Outcome.EXPIRED] * 9, type="pricing.old", ago=timedelta(days=2))
    assert list(endings.examine("default")) == []
    ended(Outcome.ANSWERED, *[Outcome.EXPIRED] * 2, Outcome.FAILED)
    told = one(lambda: endings.examine("default"))
    assert (told.id, told.about) == ("outbox.unanswered", "pricing.quote")
    assert told.figures == {"expired": 2, "failed": 1, "answered": 1}
    label, _, query = told.rows.partition("?")
    assert label == "django_outbox.request"
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    page = client.get("/admin/django_outbox/request/", {"q": query})
    assert {row.settlement.outcome for row in page.context["cl"].result_list} == {
        Outcome.EXPIRED,
        Outcome.FAILED,
    }
    overview = client.get("/admin/django_outbox/messaging/overview/?section=findings")
    link = "/admin/django_outbox/request/?q=type%3Apricing.quote"
    assert link in overview.content.decode()


def test_open_requests_near_the_deadline() -> None:
    """With a tenth of their time left, or none."""
    opened(None)
    opened(timedelta(minutes=10))
    assert list(waiting.examine()) == []
    opened(timedelta(minutes=5))
    opened(-timedelta(minutes=5))
    told = one(waiting.examine)
    assert told.id == "inbox.unanswered"
    assert told.figures == {"near": 1, "past": 1}
    assert "pricing.discount" in told.text

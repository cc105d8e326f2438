"""Our pages on a second site of the admin, which has some of our models alone."""

import re
from collections.abc import Iterator
from html import unescape
from itertools import count
from types import ModuleType
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client, override_settings
from django.urls import clear_url_caches, path
from django.utils import timezone

import outbox
from inbox.models import DeadLetter, Receipt
from outbox.models import Message
from relay.models import Checkpoint, Parked

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]
OURS = [
    "django_outbox.messaging",
    "django_outbox.message",
    "django_outbox.scheduled",
    "django_relay.checkpoint",
    "django_relay.parked",
    "django_inbox.receipt",
    "django_inbox.deadletter",
    "django_inbox.binding",
]
_LINK = re.compile(r'(?:href|action|formaction)="([^"]*)"')
MOST = 150
_numbers = count(1)


def site_with(*labels: str) -> admin.AdminSite:
    """Return a site whose pages are as those of the first."""
    found = admin.AdminSite(name=f"second-{next(_numbers)}")  # those of other tests may live on
    found.site_url = None
    for label in labels:
        model = apps.get_model(label)
        found.register(model, type(admin.site.get_model_admin(model)))
    return found


@pytest.fixture
def rows() -> None:
    """Something on each page, also what waits behind something else."""
    user = User.objects.create_user("somebody")
    with transaction.atomic():
        for number in range(3):
            outbox.emit(
                "tests.happened", {"key": "k", "number": number}, correlation_id="conversation"
            )
        outbox.emit("tests.happened", {"key": "k", "number": 9}, delay=3_600)
    first, second, _ = messages = list(Message.objects.order_by("position"))
    for message in messages:
        Parked.objects.create(
            relay="default",
            lane=message.lane,
            position=message.position,
            message_id=message.message_id,
            type=message.type,
            topic=message.topic,
            key=message.key,
            state="dead" if message is first else "waiting",
            reason="nacked",
            error="no",
            attempts=1,
            parked_at=timezone.now(),
        )
    for message, state in ((first, "dead"), (second, "waiting")):
        Receipt.objects.create(
            handler="tests.note",
            source=message.source,
            message_id=str(message.message_id),
            correlation_id="conversation",
            type=message.type,
            key="k",
            state=state,
            reason="failed" if state == "dead" else "ordered",
            error="ValueError: no",
            traceback='  File "a.py", line 1, in f\n    x\nValueError: no',
            headers="{}",
            body=b"{}",
            attempts=1,
        )
    letter = DeadLetter.objects.create(
        group="g", reason="undecodable", headers="{}", body=b"x", digest="d", error="no"
    )
    from outbox.operations import write_down  # noqa: PLC0415

    write_down([letter], "Discarded.", user=user)
    write_down(list(Parked.objects.all()), "Requeued.", user=user)


@pytest.fixture
def client(client: Client) -> Iterator[Client]:
    client.force_login(User.objects.create_superuser("root"))
    yield client
    clear_url_caches()


def mounted(site: admin.AdminSite) -> Any:
    urls = ModuleType("two_sites")
    urls.urlpatterns = [  # type: ignore[attr-defined]
        path("admin/", admin.site.urls),
        path("second/", site.urls),
    ]
    return override_settings(ROOT_URLCONF=urls)


@pytest.mark.parametrize(
    "left_out",
    [[], *([each] for each in OURS[:2] + OURS[3:6]), OURS[1:], OURS[:1] + OURS[2:], OURS[:-1]],
    ids=lambda found: "without " + " ".join(each.partition(".")[2] for each in found),
)
@pytest.mark.usefixtures("rows")
def test_each_page_leads_to_pages_of_its_site(client: Client, left_out: list[str]) -> None:
    """Whatever of ours that site leaves out: no link is broken, and none leads to the other."""
    labels = [each for each in OURS if each not in left_out]
    with mounted(site_with(*labels)):
        waiting, seen = ["/second/"], set[str]()
        while waiting and len(seen) < MOST:
            url = waiting.pop(0)
            response = client.get(url)
            assert response.status_code in (200, 302, 405), (url, response.status_code)
            text = response.content.decode() if response.status_code == 200 else ""
            found = [unescape(each) for each in _LINK.findall(text)]
            found += [response["Location"]] if response.status_code == 302 else []
            for link in found:
                address = urldefrag(urljoin(url, link))[0]
                parts = urlsplit(address)
                if parts.netloc or parts.path.startswith(("/static/", "/media/")):
                    continue
                assert parts.path.startswith("/second/"), f"{url} leads to {link}"
                shape = re.sub(r"[0-9]+", "0", parts.path) + "?" + parts.query[:3]
                if shape not in seen and "logout" not in address and "password" not in address:
                    seen.add(shape)
                    waiting.append(address)
        assert len(seen) > 4
        assert Checkpoint.objects.count() == 0

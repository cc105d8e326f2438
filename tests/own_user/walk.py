"""Look at all pages, act on rows and ask the API as such a user; a program of its own."""

import re
from typing import Any

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import setup_test_environment  # noqa: E402

from inbox.models import Receipt  # noqa: E402
from tests.own_user.models import User  # noqa: E402

PHONE = 4915112345678
client = Client()


def ask(path: str, data: Any = None, **options: Any) -> str:
    """Return what is answered; fail if that is an error."""
    call = client.get if data is None else client.post
    response = call(path, data, follow=True, **options)
    assert response.status_code == 200, (path, response.status_code, response.content[:200])
    return response.content.decode()


def walk() -> None:
    """Do it."""
    setup_test_environment()
    call_command("migrate", verbosity=0, run_syncdb=True)
    client.force_login(User.objects.create(phone=PHONE, is_superuser=True))
    row = Receipt.objects.create(
        handler="h",
        source="/s",
        message_id="1",
        type="a.b",
        state="dead",
        error="ValueError: x",
        headers="{}",
        body=b"{}",
    )
    pages = "/admin/django_outbox/messaging/"
    for verb in ("discard", "restore"):
        ask(f"/admin/django_inbox/receipt/{row.pk}/{verb}/", {"confirmed": "yes"})
    for name in ("overview", "messages", "failures", "flow", "traffic", "storage", "doings"):
        ask(f"{pages}{name}/")
    assert "Discarded." in ask(f"{pages}doings/?user={PHONE}")
    assert "Discarded." not in ask(f"{pages}doings/?user=anna")
    [group] = set(re.findall(r'"([^"]*failures/receipts/[0-9a-f]{32}/)"', ask(f"{pages}failures/")))
    assert "is kept" in ask(f"{group}note/", {"text": "seen", "seen": ""})
    assert f"{PHONE} has written this" in ask(group)
    ask(f"{group}retry/", {})
    assert f'"user":"{PHONE}"' in ask("/api/doings")
    reason = {"reason": "x"}
    ask(f"/api/receipts/{row.pk}/discard", reason, content_type="application/json")


if __name__ == "__main__":
    walk()
    print("well")

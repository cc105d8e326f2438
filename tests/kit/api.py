"""What the tests of the API share."""

from typing import Any

from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.test import Client

from outbox.models import Message, Scheduled

API = "/api/"
WHY = {"reason": "the tests want it"}


class Caller:
    """Somebody who calls the API, with some permissions ("app.codename")."""

    def __init__(self, name: str, *permissions: str) -> None:
        cache.clear()  # requests of others are counted by ids, which tests give out again
        self.user = User.objects.create_user(name)
        for each in permissions:
            app, codename = each.split(".")
            found = Permission.objects.get(content_type__app_label=app, codename=codename)
            self.user.user_permissions.add(found)
        self.client = Client()
        self.client.force_login(self.user)

    def get(self, path: str, *, status: int = 200, **query: str) -> Any:
        """Return what is answered; fail on another status."""
        return self._told(self.client.get(API + path, query), status)

    def post(self, path: str, body: Any = WHY, *, status: int = 200) -> Any:
        """Return what is answered; fail on another status."""
        sent = self.client.post(API + path, body, content_type="application/json")
        return self._told(sent, status)

    def put(self, path: str, body: Any, *, status: int = 200) -> Any:
        """Return what is answered; fail on another status."""
        sent = self.client.put(API + path, body, content_type="application/json")
        return self._told(sent, status)

    @staticmethod
    def _told(response: Any, status: int) -> Any:
        assert response.status_code == status, (response.status_code, response.content)
        said = response.json()
        if status >= 400:
            assert response["Content-Type"] == "application/problem+json"
            assert said["status"] == status
            assert said["type"].startswith("tag:")
        return said


VIEW = (
    "admin.view_logentry",
    "django_outbox.view_message",
    "django_outbox.view_scheduled",
    "django_outbox.view_request",
    "django_outbox.view_acknowledgement",
    "django_outbox.view_reconciliation",
    "django_outbox.view_break",
    "django_relay.view_checkpoint",
    "django_relay.view_parked",
    "django_inbox.view_receipt",
    "django_inbox.view_deadletter",
    "django_inbox.view_openrequest",
    "django_inbox.view_binding",
)
"""The permissions of somebody who looks."""


def mine(request: Any, rows: Any) -> Any:
    """Scope of the tests: staff sees all, others see messages whose key is their name."""
    if request.user.is_staff:
        return rows
    if rows.model in (Message, Scheduled) or hasattr(rows.model, "key"):
        return rows.filter(key=request.user.username)
    return rows.none()


def slow(request: Any, rows: Any) -> Any:
    """Scope of the tests: takes half a second for each row."""
    return rows.extra(where=["pg_sleep(0.5) IS NOT NULL"])

"""What the tests of the admin pages share."""

import re
from html import unescape
from typing import Any

from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

ALL_MODELS = (
    "django_outbox.message",
    "django_outbox.scheduled",
    "django_relay.checkpoint",
    "django_relay.parked",
    "django_inbox.receipt",
    "django_inbox.deadletter",
    "django_inbox.binding",
)
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)">')
_INLINE = re.compile(r"<style|<script(?![^>]*\bsrc=)|<[^>]*\s(style|on\w+)=", re.IGNORECASE)


def log_in(client: Client, *models: str) -> None:
    """Log a member of staff in who may view these models ("app.model") and nothing else."""
    user = User.objects.create_user("viewer", is_staff=True)
    for label in models:
        app, name = label.split(".")
        user.user_permissions.add(
            Permission.objects.get(content_type__app_label=app, codename=f"view_{name}")
        )
    client.force_login(user)
    ContentType.objects.get_for_models(*apps.get_models())  # cached, for pages to be comparable


def list_url(model: type[Model], query: str = "") -> str:
    meta = model._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist") + query


def detail_url(row: Model) -> str:
    meta = row._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=(row.pk,))


def page(client: Client, url: str, *, counts: bool = False) -> str:
    """Return the text of a page; fail on anything but 200, a COUNT or something inline.

    What `counts` has asked the doctor, who counts up to a bound.
    """
    text, _ = counted(client, url, counts=counts)
    return text


def counted(client: Client, url: str, *, counts: bool = False) -> tuple[str, int]:
    """Return the text of a page and the number of statements that it took."""
    with CaptureQueriesContext(connection) as captured:
        response = client.get(url)
    assert response.status_code == 200, (response.status_code, response.headers)
    text = response.content.decode()
    statements = " ".join(each["sql"] for each in captured.captured_queries).lower()
    assert counts or "count(" not in statements
    # A strict Content-Security-Policy lets none of this through.
    assert _INLINE.search(text) is None, _INLINE.search(text)
    return text, len(captured)


def for_the_limit() -> int:
    """Return how many statements a limit of time takes: what opens it, says it and ends it.

    Within a transaction of the test's it is undone as well. SQLite has none.
    """
    if connection.vendor != "postgresql":
        return 0
    return 4 if connection.in_atomic_block else 3


def rows(client: Client, url: str) -> list[Any]:
    """Return the rows of a list page, in the order in which it shows them."""
    response = client.get(url)
    assert response.status_code == 200, (response.status_code, response.headers)
    return list(response.context["cl"].result_list)


def confirmed(client: Client, response: Any) -> Any:
    """Say yes on a page that asks, as a browser does; return the page that follows."""
    text = response.content.decode()
    assert "outbox-confirm" in text, shown(text)
    assert _INLINE.search(text) is None, _INLINE.search(text)
    form: dict[str, list[str]] = {}
    for name, value in _HIDDEN.findall(text):
        form.setdefault(name, []).append(unescape(value))
    last = response.request
    address = f"{last['PATH_INFO']}?{last['QUERY_STRING']}"
    return client.post(address, form, follow=True)


def shown(text: str) -> str:
    """Return the text of a page without markup and repeated blanks."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text))

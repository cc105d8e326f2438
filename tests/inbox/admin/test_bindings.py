"""The admin pages of bindings."""

import re

import pytest
from django.test import Client
from django.utils import timezone

from inbox.models import Binding
from tests.kit.admin_pages import detail_url, list_url, log_in, page, rows, shown

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]


def test_bindings_are_shown_and_cannot_be_changed(client: Client) -> None:
    """Group, queue, pattern, and in which state they are since when, to those who may view them."""
    log_in(client, "django_inbox.binding")
    moment = timezone.now()
    states = {
        "a.bound": {"declared": moment},
        "b.unbound": {"declared": moment, "unbound": moment},
        "c.new": {},
    }
    made = [
        Binding.objects.create(group="g", queue="q", exchange="events", topic=topic, **about)
        for topic, about in states.items()
    ]
    text = shown(page(client, list_url(Binding)))

    assert rows(client, list_url(Binding)) == made[::-1]
    for line in ("g q a.bound bound", "g q b.unbound unbound", "g q c.new not declared - "):
        assert re.search(re.escape(line), text), text
    for binding in made:
        detail = page(client, detail_url(binding))
        assert binding.topic in shown(detail)
        assert 'name="_save"' not in str(detail)
    assert client.get(detail_url(made[0]).replace("change", "delete")).status_code == 403

"""What a row has not is shown as such, and never as Python's None."""

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings

from relay.models import Parked
from tests.inbox.support import Handling
from tests.kit import every_page
from tests.kit.admin_pages import detail_url, list_url

pytestmark = pytest.mark.django_db(transaction=True)


@override_settings(**every_page.SETTINGS)
def test_no_page_of_a_row_and_no_list_shows_none(client: Client, handling: Handling) -> None:
    """A dash stands there."""
    every_page.fill(handling)
    Parked.objects.update(key=None)
    client.force_login(User.objects.create_superuser("root"))
    addresses = [list_url(model) for model in every_page.LISTS]
    addresses += [
        detail_url(row) for model in every_page.LISTS for row in model._default_manager.all()[:3]
    ]

    shown = [url for url in addresses if re.search(r">\s*None\s*<", client.get(url).text)]

    assert shown == []

"""A page in a real browser asks over HTTP, and polls with the lines of the documentation."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from rest_framework.response import Response
from selenium.webdriver.common.by import By

from outbox.api.accepted import AcceptedView
from outbox.models import Request
from outbox.testing import drain
from tests.browser.conftest import Person
from tests.kit.waiting import until
from tests.outbox.api.quoting import declared

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _service() -> Iterator[None]:
    """The page, and the service that quotes."""
    settings = override_settings(
        ROOT_URLCONF="tests.browser.quote_page",
        INBOX={"GROUP": "shop"},
        RELAYS={"default": {"BACKEND": "relay.brokers.local.LocalBroker"}},
    )
    with declared(), settings:
        yield


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What requests have been told, by method and status."""
    found: list[tuple[str, int]] = []
    finish = AcceptedView.finalize_response

    def finalize(view: AcceptedView, request: Any, response: Response, *rest: Any, **more: Any):
        found.append((request.method, response.status_code))
        return finish(view, request, response, *rest, **more)

    monkeypatch.setattr(AcceptedView, "finalize_response", finalize)
    return found


def test_a_page_polls(browser: Person, told: list[tuple[str, int]]) -> None:
    """Whoever is logged in asks; the browser itself says what it has seen, and gets 304."""
    browser.visit("/page")
    browser.driver.find_element(By.TAG_NAME, "button").click()
    until(lambda: ("GET", 304) in told)
    assert browser.text == "Ask"
    drain()
    until(lambda: browser.text.endswith("answered: 42"))

    assert told[0] == ("POST", 202)
    assert told[-1] == ("GET", 200)
    assert Request.objects.count() == 1

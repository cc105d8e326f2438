"""Every page in German, whose words are long: there is room for them."""

from collections.abc import Iterator

import pytest
from django.conf import settings as django_settings
from django.test import Client, override_settings

from tests.browser.conftest import Person
from tests.browser.test_readers import open_all
from tests.inbox.support import Handling
from tests.kit import every_page

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

WIDTHS = (390, 1400)
_CUT_OFF = """
const shortened = ".outbox-id, .outbox-name, .outbox-line, .outbox-flow-key, .outbox-payload *";
return [...document.querySelectorAll("#content *, .breadcrumbs")].filter(each => {
  const style = getComputedStyle(each);
  return !each.matches(shortened) && each.offsetParent && each.clientWidth > 1
    && (style.overflowX === "hidden" || each.matches("button, .outbox-button, .outbox-badge"))
    && each.scrollWidth > each.clientWidth + 1;
}).map(each => `${each.tagName}.${each.className}: ${each.textContent.trim().slice(0, 80)}`);
"""


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    with override_settings(**every_page.SETTINGS):
        yield


@pytest.mark.pages
@pytest.mark.timeout(300)
def test_every_page(browser: Person, handling: Handling, client: Client) -> None:
    """No page is wider than its window, and nothing of ours ends in the middle of a word."""
    every_page.fill(handling)
    browser.driver.add_cookie({"name": django_settings.LANGUAGE_COOKIE_NAME, "value": "de"})
    found: dict[str, list[str]] = {}
    for name, address in every_page.addresses(client):
        browser.visit(address)
        assert browser.run("return document.documentElement.lang") == "de"
        open_all(browser)
        for width in WIDTHS:
            browser.resize(width)
            wide = browser.run("return document.documentElement.scrollWidth")
            wrong = [f"{wide} pixels"] if wide > width else []
            if wrong := wrong + browser.run(_CUT_OFF):
                found[f"{name} {width}"] = wrong

    assert found == {}

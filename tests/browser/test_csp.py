"""Every page under a Content-Security-Policy that lets through nothing inline, and nothing else's.

Every browser test runs with it (tests.settings), and fails if the console tells of a violation.
"""

from collections.abc import Iterator

import django
import pytest
from django.http import HttpRequest
from django.test import Client, override_settings
from django.utils.html import format_html

from outbox.admin_support.blocks import Apology, Block
from outbox.extensions import pages
from outbox.extensions.pages import Section, register_section
from outbox.models import Message
from tests.browser.conftest import Person
from tests.inbox.support import Handling
from tests.kit import csp, every_page
from tests.kit.waiting import until

# Not marked as slow: the newest Django, which has a middleware of its own, must be tried as well.
pytestmark = pytest.mark.django_db(transaction=True)

_LISTEN = """
window.violations = [];
document.addEventListener("securitypolicyviolation", event => window.violations.push(
  `${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber} `
  + event.sample));
"""


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    with override_settings(**every_page.SETTINGS):
        yield


@pytest.fixture
def listening(browser: Person) -> Iterator[Person]:
    """A browser whose pages keep what the policy forbade from the first line on."""
    command = "Page.addScriptToEvaluateOnNewDocument"
    answer = browser.driver.execute(
        "executeCdpCommand", {"cmd": command, "params": {"source": _LISTEN}}
    )
    yield browser
    browser.browser.command(
        "Page.removeScriptToEvaluateOnNewDocument", identifier=answer["value"]["identifier"]
    )


@pytest.mark.timeout(300)
def test_every_page(listening: Person, handling: Handling, client: Client) -> None:
    """Also once what is read later is there, and all that is folded is open."""
    browser = listening
    every_page.fill(handling)
    found = {}
    for name, address in every_page.addresses(client):
        browser.visit(address)
        until(lambda: not browser.all("[data-outbox-lazy]"))
        browser.run("document.querySelectorAll('details').forEach(each => each.open = true)")
        if violations := browser.run("return window.violations"):
            found[name] = violations

    assert found == {}


def test_pages_are_sent_with_it(client: Client) -> None:
    """By Django's own middleware, where it has one."""
    answer = client.get("/admin/login/")

    assert answer.headers["Content-Security-Policy"] == (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "object-src 'none'"
    )
    assert csp.MIDDLEWARE.startswith("django.") == (django.VERSION >= (6, 0))


def test_a_violation_would_be_seen(listening: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its event and in the console: a style in an attribute."""
    browser = listening

    def build(request: HttpRequest, using: str) -> Iterator[Block]:
        yield Apology(title="inline", text=format_html('<b style="{}">red</b>', "color: red"))

    monkeypatch.setattr(pages, "_sections", {})
    register_section(
        Section(page="overview", name="inline", title="inline", build=build, models=[Message])
    )
    browser.visit(f"{every_page.MESSAGING}overview/")

    [violation] = browser.run("return window.violations")
    assert violation.startswith("style-src-attr inline")
    [error] = browser.browser.errors()
    assert "Content Security Policy" in error

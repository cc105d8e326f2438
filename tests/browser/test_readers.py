"""Every page for those who hear it, see little, or have a keyboard alone, as axe-core judges."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client, override_settings

from tests.browser.conftest import Person
from tests.inbox.support import Handling
from tests.kit import every_page
from tests.kit.services.axe import script
from tests.kit.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

_RUN = """
const options = {resultTypes: ["violations"], ...arguments[0]};
// A colour that is on its way from light to dark is no colour of ours.
const still = Promise.allSettled(document.getAnimations().map(each => each.finished));
// Whatever is never finished is waited for no longer.
return Promise.race([still, new Promise(over => setTimeout(over, 3000))])
  .then(() => axe.run(document, options)).then(found => found.violations
  .filter(each => ["serious", "critical"].includes(each.impact))
  .flatMap(each => each.nodes.map(node => ({
    id: each.id, where: node.target.join(" "), html: node.html.slice(0, 200),
    why: node.any.concat(node.all, node.none).map(check => check.message).join("; "),
  }))));
"""
CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
"""What else there is to find does not depend on colours."""
WIDTHS = (390, 1400)


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core."""
    return script()


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    # It looks at styles that it sets itself.
    with override_settings(**every_page.SETTINGS, SECURE_CSP={}):
        yield


def scheme(browser: Person, name: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": name}] if name else []
    browser.browser.command("Emulation.setEmulatedMedia", features=features)


def findings(browser: Person, axe: str, options: dict[str, Any] | None = None) -> list[str]:
    """Return what is serious, or worse, on the page that is open."""
    if not browser.run("return typeof axe === 'object'"):
        browser.run(axe)
    found = browser.run(_RUN, options or {})
    return [f"{each['id']} {each['where']}: {each['why']} | {each['html']}" for each in found]


def open_all(browser: Person) -> None:
    """Open what is folded, and wait for what is read later."""
    until(lambda: not browser.all("[data-outbox-lazy]"))
    browser.run("document.querySelectorAll('#content details').forEach(each => each.open = true)")


@pytest.mark.pages
@pytest.mark.timeout(600)
def test_every_page(browser: Person, axe: str, handling: Handling, client: Client) -> None:
    """On a phone and on a desk, light and dark."""
    every_page.fill(handling)
    seen: dict[str, list[str]] = {}
    try:
        for name, address in every_page.addresses(client):
            browser.visit(address)
            open_all(browser)
            for width in WIDTHS:
                browser.resize(width)
                for colours in ("light", "dark"):
                    scheme(browser, colours)
                    options = CONTRAST if colours == "dark" else {}
                    for each in findings(browser, axe, options):
                        seen.setdefault(each, []).append(f"{name} {width} {colours}")
    finally:
        scheme(browser, "")
    assert not seen, "\n".join(f"{each}: {', '.join(where)}" for each, where in seen.items())


def test_it_would_be_found(browser: Person, axe: str) -> None:
    """What is wrong on purpose: no name, no contrast."""
    browser.visit("/admin/")
    browser.run(
        "document.getElementById('content').innerHTML ="
        '\'<button></button><p class="quiet" id="pale">pale</p>\';'
        "document.getElementById('pale').style.color = '#eee'"
    )
    found = " ".join(findings(browser, axe))

    assert "button-name" in found
    assert "color-contrast #pale" in found

"""Pages made of sections in a real browser: alive, paused, hidden, without scripts."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from django.db import transaction
from django.http import HttpRequest
from django.test import override_settings
from django.utils import timezone
from selenium.webdriver.common.by import By

import outbox
from inbox.models import Receipt
from outbox.admin_support.blocks import Block, Panel
from outbox.extensions import pages
from outbox.extensions.pages import Section, register_section
from outbox.models import Message
from tests.browser.conftest import Person
from tests.inbox.reports.test_gauges import made
from tests.kit.support import Counted
from tests.kit.waiting import until
from tests.relay.test_retention import publish, relays

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

OVERVIEW = "/admin/django_outbox/messaging/overview/"
PAGES = ("overview", "traffic", "storage", "doings")
QUIET = 2.5
"""Seconds in which a section that is read every second would have been read twice."""


@dataclass
class Ticks:
    """A section that says how often it was built."""

    name: str
    built: int = 0
    texts: list[str] = field(default_factory=list)

    def build(self, request: HttpRequest, using: str) -> Iterator[Block]:
        self.built += 1
        yield Panel(title=self.name, empty=f"{self.name} built {self.built} times.")


@pytest.fixture
def section(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ticks]:
    """Returns what shows a section; there are no others."""
    monkeypatch.setattr(pages, "_sections", {})

    def show(name: str, **options: object) -> Ticks:
        ticks = Ticks(name)
        about = {"page": "overview", "title": name, "models": [Message], "every": 1.0} | options
        register_section(Section(name=name, build=ticks.build, **about))  # type: ignore[arg-type]
        return ticks

    return show


def stays(ticks: Ticks) -> bool:
    """Tell whether a section is not read any more."""
    time.sleep(QUIET)  # for what is being read
    before = ticks.built
    time.sleep(QUIET)
    return ticks.built == before


def goes_on(ticks: Ticks) -> bool:
    before = ticks.built
    until(lambda: ticks.built > before)
    return True


def shows(browser: Person, text: str) -> bool:
    return text in browser.text


def test_a_section_is_read_anew_by_itself(browser: Person, section: Callable[..., Ticks]) -> None:
    """And what was read is shown."""
    ticks = section("ticks")
    browser.visit(OVERVIEW)

    until(lambda: ticks.built > 2)
    until(lambda: shows(browser, f"ticks built {ticks.built} times."))


def test_pause(browser: Person, section: Callable[..., Ticks]) -> None:
    """Nothing is read as long as it is chosen."""
    ticks = section("ticks")
    browser.visit(OVERVIEW)
    [box] = browser.all("[data-outbox-pause]")
    box.click()
    assert stays(ticks)

    box.click()
    assert goes_on(ticks)


def test_a_page_that_nobody_sees_reads_nothing(
    browser: Person, section: Callable[..., Ticks]
) -> None:
    """It goes on once it is seen again."""
    ticks = section("ticks")
    browser.visit(OVERVIEW)
    browser.run("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    assert stays(ticks)

    browser.run("delete document.hidden")
    assert goes_on(ticks)


def test_what_is_being_looked_into_is_left_alone(
    browser: Person, section: Callable[..., Ticks]
) -> None:
    """Text that is selected stays selected."""
    ticks = section("ticks")
    browser.visit(OVERVIEW)
    browser.run("getSelection().selectAllChildren(document.querySelector('.outbox-section'))")
    assert stays(ticks)

    browser.run("getSelection().removeAllRanges()")
    assert goes_on(ticks)


def test_a_lazy_section_is_read_at_once(browser: Person, section: Callable[..., Ticks]) -> None:
    """Long before its time comes round; after that, it is read as any other."""
    lazy = section("lazy", lazy=True, every=60.0)
    browser.visit(OVERVIEW)

    until(lambda: shows(browser, "lazy built 1 times."))
    assert not browser.all("[data-outbox-lazy]")
    assert lazy.built == 1


def test_without_scripts(browser: Person, section: Callable[..., Ticks]) -> None:
    """A lazy section has a link; all is there, and stays as it was; there is nothing to pause."""
    browser.run_scripts(False)
    ticks, lazy = section("ticks"), section("lazy", lazy=True)
    browser.visit(OVERVIEW)
    assert shows(browser, "ticks built 1 times.")
    assert not browser.driver.find_element(By.CSS_SELECTOR, ".outbox-pause").is_displayed()
    assert stays(ticks)
    assert lazy.built == 0

    browser.click("Show")
    assert shows(browser, "lazy built 1 times.")
    assert browser.place == f"{OVERVIEW}?show=lazy#outbox-section-lazy"


@pytest.fixture
def real() -> Iterator[None]:
    """All sections that there are, with something to show, also long names."""
    with override_settings(RELAYS=relays("mine")):
        _fill()
        yield


def _fill() -> None:
    with transaction.atomic():
        outbox.emit_many([Counted("key", number) for number in range(20)])
    publish()
    now = timezone.now()
    Receipt.objects.bulk_create(
        made(n, handler="a_very_long_name." * 5, state="dead", changed=now - timedelta(hours=n))
        for n in range(20)
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400, 1920])
@pytest.mark.usefixtures("real")
def test_nothing_is_wider_than_the_page(browser: Person, width: int, scheme: str) -> None:
    """On a phone, on a desk, on a wall; and the lines of a chart can be told from its ground."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.browser.command("Emulation.setEmulatedMedia", features=features)
    browser.resize(width)
    for name in PAGES:
        browser.visit(f"/admin/django_outbox/messaging/{name}/")
        until(lambda: not browser.all("[data-outbox-lazy]"))
        wide = browser.run("return document.documentElement.scrollWidth")
        assert wide <= width, name
        if name == "overview":
            assert len(browser.all(".outbox-chart svg")) == 6
            for line in browser.all(".outbox-stroke"):
                assert line.value_of_css_property("stroke") != "none"
    browser.browser.command("Emulation.setEmulatedMedia", features=[])

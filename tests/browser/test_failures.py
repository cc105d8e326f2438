"""The page of failures in a real browser: groups, a note, a canary, giving up and taking back."""

from contextlib import suppress
from datetime import timedelta

import pytest
from django.utils import timezone
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By

from inbox.models import DeadLetter, Receipt
from outbox.models import FailureNote
from relay.models import Parked
from tests.browser.conftest import Person
from tests.browser.test_admin import LONG, either_way, park, settings  # noqa: F401
from tests.inbox.support import Handling, happened, receive, turn
from tests.inbox.test_failures import ONCE, Shop, dead, states
from tests.kit.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
FAILURES = "/admin/django_outbox/messaging/failures/"
TRY = "Try one, then the rest if it holds"


@pytest.fixture
def shop(handling: Handling) -> Shop:
    """A handler on which five messages were dead."""
    found = Shop(range(100))
    handling(found, retry=ONCE)
    dead(*range(1, 6))
    return found


def open_group(browser: Person) -> None:
    browser.visit(FAILURES)
    link = browser.driver.find_element(By.CSS_SELECTOR, ".outbox-failure a")
    browser._follow(link)


def says(browser: Person, text: str) -> None:
    """Wait until the page says something; meanwhile it may become another one."""

    def is_there() -> bool:
        with suppress(StaleElementReferenceException):
            return text in browser.text
        return False

    until(is_there)


def go_on(browser: Person, button: str, runs_scripts: bool) -> None:
    """Click at a button, unless a script does."""
    if not runs_scripts:
        browser.click(button)


@pytest.fixture
def runs_scripts(request: pytest.FixtureRequest) -> bool:
    return bool(request.node.callspec.params["either_way"])


def test_a_canary_that_holds(either_way: Person, shop: Shop, runs_scripts: bool) -> None:  # noqa: F811
    """From the index: what fails, try one, and the rest follows; without scripts by clicks."""
    browser = either_way
    browser.visit("/admin/")
    browser.click("Messaging")
    browser.click("Failures")
    assert "LookupError no price for …" in browser.text
    assert "5 dead" in " ".join(browser.text.split())
    browser._follow(browser.driver.find_element(By.CSS_SELECTOR, ".outbox-failure a"))
    shop.fails = ()
    browser.click(TRY)
    assert "The first one is due, and waits for the process that tries it." in browser.text
    assert list(states().values()).count("dead") == 4
    turn()
    go_on(browser, "Look again", runs_scripts)
    if not runs_scripts:
        assert "The first one was handled." in browser.text
        browser.click("Go on with the rest")
    says(browser, "The last ones are due")
    turn()
    go_on(browser, "Look again", runs_scripts)
    says(browser, "All were tried that had failed when this began.")

    assert set(states().values()) == {"processed"}
    browser.click("Back to the failures")
    assert "Nothing of it fails any more." in browser.text


def test_a_canary_that_fails_again(either_way: Person, shop: Shop, runs_scripts: bool) -> None:  # noqa: F811
    """The others are left as they are."""
    browser = either_way
    open_group(browser)
    browser.click(TRY)
    turn()
    go_on(browser, "Look again", runs_scripts)
    says(browser, "The first one has failed again, so all others are left as they are.")

    assert "LookupError: no price for 1" in browser.text
    assert browser.buttons() == ["See what fails"]
    assert set(states().values()) == {"dead"}
    assert Receipt.objects.filter(last_attempts__contains='}, {"at"').count() == 1
    browser.click("See what fails")
    assert TRY in browser.buttons()


def test_a_note(either_way: Person, shop: Shop) -> None:  # noqa: F811
    """Write one, see it in the list, and change it."""
    browser = either_way
    open_group(browser)
    browser.driver.find_element(By.NAME, "text").send_keys("The price list is gone")
    browser.click("Keep the note")
    assert browser.told == ["The note is kept."]
    assert "root has written this:" in browser.text
    browser.visit(FAILURES)
    assert "The price list is gone" in browser.text
    open_group(browser)
    browser.driver.find_element(By.NAME, "text").send_keys(", and back")
    browser.click("Keep the note")

    assert FailureNote.objects.get().text == "The price list is gone, and back"


def test_discard_and_undo(either_way: Person, shop: Shop) -> None:  # noqa: F811
    """After a no, a yes; and all of it is back."""
    browser = either_way
    open_group(browser)
    place = browser.place
    browser.click("Discard")
    assert "Discard 5 receipts?" in browser.text
    browser.click("No, go back")
    assert (browser.place, set(states().values())) == (place, {"dead"})
    browser.click("Discard")
    browser.click("Yes, discard")
    assert "5 receipts are discarded." in browser.text
    assert set(states().values()) == {"discarded"}
    browser.click("Undo")

    assert browser.told[0].startswith("5 receipts are restored")
    assert (browser.place, set(states().values())) == (place, {"dead"})


@pytest.mark.parametrize("width", [390, 1400, 1920])
def test_nothing_is_cut_off(width: int, browser: Person, shop: Shop) -> None:
    """No page is wider than its window, with names and errors that are long."""
    receive(*(happened(number, type="tests.unknown") for number in range(3)))
    park(3)
    Parked.objects.update(error=LONG, topic="com.example.warehouse." * 8)
    DeadLetter.objects.update(error=LONG)
    now = timezone.now()
    for number, row in enumerate(Receipt.objects.all()):
        row.received = now - timedelta(hours=number * 3)
        row.handler = "shop.place_an_order_" * 4
        row.save()
    browser.resize(width)
    wide = "return document.documentElement.scrollWidth"
    browser.visit(FAILURES)
    assert browser.run(wide) <= width
    assert len(browser.all(".outbox-failure")) == 3
    open_group(browser)
    assert browser.run(wide) <= width
    browser.click(TRY)
    assert browser.run(wide) <= width

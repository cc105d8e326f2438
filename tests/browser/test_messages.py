"""Messages in a real browser: the filter bar, a mistake in it, all that match, the way of one."""

from collections.abc import Iterator

import pytest
from django.test import override_settings
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from inbox.models import Receipt
from outbox.models import Message
from relay.log import open_log
from relay.transfer import transfer
from tests.browser.conftest import Person
from tests.browser.test_admin import emit, park, state_of
from tests.inbox.admin.test_tools import reject
from tests.inbox.support import Handling, happened, receive
from tests.kit.admin_pages import detail_url, list_url
from tests.kit.support import RecordingBroker

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

LOCAL = {"BACKEND": "relay.brokers.local.LocalBroker"}


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    with override_settings(OUTBOX={"LANES": 1}, RELAYS={"default": LOCAL}):
        yield


@pytest.fixture(params=[True, False], ids=["scripts", "no scripts"])
def either_way(request: pytest.FixtureRequest, browser: Person) -> Person:
    """A browser that runs scripts, and one that does not."""
    browser.run_scripts(request.param)
    return browser


def look_for(browser: Person, text: str) -> None:
    """Write a filter, and have it run by the keyboard."""
    found = browser.driver.find_element(By.ID, "searchbar")
    found.clear()
    found.send_keys(text)
    browser.follow(found, lambda: found.send_keys(Keys.ENTER))


def listed(browser: Person) -> int:
    return len(browser.all("#result_list tbody tr"))


def test_a_filter_is_written_and_mended(either_way: Person) -> None:
    """By the tab to the list; a mistake is told, a click mends it, the help has more."""
    browser = either_way
    emit(3)
    browser.visit("/admin/django_outbox/messaging/overview/")
    [tab] = [each for each in browser.all(".outbox-tabs a") if each.text == "Messages"]
    browser.follow(tab, tab.click)
    assert browser.place == list_url(Message)
    assert listed(browser) == 3

    look_for(browser, "key:key-1")
    assert listed(browser) == 1
    look_for(browser, "key:key-1 state:pendin")
    assert "There is no “pendin” here." in browser.text
    assert [each.text for each in browser.all(".outbox-mistake mark")] == ["state:pendin"]
    assert listed(browser) == 0
    browser.click("pending")
    assert browser.all("#searchbar")[0].get_attribute("value") == "key:key-1 state:pending"
    assert listed(browser) == 1

    browser.all(".outbox-grammar summary")[0].click()
    browser.click("age:>1h")
    assert "q=key%3Akey-1+state%3Apending+age%3A%3E1h" in browser.place
    assert listed(browser) == 0


def test_all_that_match_are_retried_after_a_dry_run(
    either_way: Person, handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Number and examples first, nothing done by then; what comes later is left alone."""
    monkeypatch.setattr("outbox.admin_support.bulk.BATCH", 2)
    browser = either_way
    handling(reject)
    receive(*(happened(n) for n in range(3)))
    browser.visit(list_url(Receipt, "?q=state:dead"))
    browser.choose("Retry all receipts that match")
    assert "Retry 2 receipts?" in browser.text
    assert "3 match." in browser.text
    assert set(Receipt.objects.values_list("state", flat=True)) == {"dead"}
    receive(happened(9))

    browser.click("Yes, retry")
    assert "2 of 3 have had their turn." in browser.text
    assert browser.told[0].startswith("2 receipts are due now")
    browser.click("Yes, retry")

    assert browser.place == list_url(Receipt, "?q=state:dead")
    states = list(Receipt.objects.order_by("pk").values_list("state", flat=True))
    assert states == ["retrying", "retrying", "retrying", "dead"]


def test_the_way_of_a_message(either_way: Person, handling: Handling) -> None:
    """Steps in their order, with times between; what failed is marked, and has its buttons."""
    browser = either_way
    handling(reject, pattern="tests.counted")
    emit()
    message = Message.objects.get()
    transfer(open_log("default", using="default"), RecordingBroker(), 0, 100)
    receive(message.as_envelope())
    browser.visit(message)
    steps = [each.text for each in browser.all(".outbox-step")]
    words = ("emitted", "published", "received", "dead")
    assert all(word in step for word, step in zip(words, steps, strict=True)), steps
    assert "after it was emitted" in steps[1]
    [failed] = browser.all(".outbox-step-failed")
    assert [each.text for each in failed.find_elements(By.CSS_SELECTOR, ".outbox-button")] == [
        "Retry",
        "Edit and retry",
        "Discard",
    ]

    browser.click("Publish again")
    assert "Publish 1 message again by relay default?" in browser.text
    browser.click("Yes, publish again")
    assert browser.told == ["Relay default has published it again."]
    browser.click("Retry")
    assert browser.place == detail_url(message)
    assert state_of(Receipt.objects.get()) == "retrying"


def test_an_edit_shows_its_difference(either_way: Person, handling: Handling) -> None:
    """Before it is done; and one can go on with it."""
    browser = either_way
    handling(reject)
    receive(happened(1))
    receipt = Receipt.objects.get()
    browser.visit(receipt)
    browser.click("Edit and retry")
    body = browser.driver.find_element(By.NAME, "body")
    body.clear()
    body.send_keys('{"key": "k", "number": 100}')
    browser.click("Show what changes")
    assert [each.text for each in browser.all(".outbox-diff ins")] == ['+   "number": 100']
    browser.click("Change more")
    assert "100" in str(browser.driver.find_element(By.NAME, "body").get_attribute("value"))
    browser.click("Show what changes")
    browser.click("Yes, edit and retry")

    assert browser.told == ["It is edited, and due: a consumer will handle it."]
    receipt.refresh_from_db()
    assert bytes(receipt.body or b"") == b'{"key": "k", "number": 100}'


@pytest.mark.parametrize("width", [390, 1400, 1920])
def test_nothing_is_wider_than_its_window(width: int, browser: Person, handling: Handling) -> None:
    """With the help open, with a mistake, and on the page of a message with long names."""
    browser.resize(width)
    [parked, *_] = park(2)
    long = "x" * 300
    pages = [
        list_url(Message, f"?q=key:{long}"),
        list_url(Message, f"?q=key:1+nobody:{long}"),
        detail_url(Message.objects.get(pk=parked.position)),
    ]
    for where in pages:
        browser.visit(where)
        for each in browser.all(".outbox-grammar summary"):
            each.click()
        assert browser.run("return document.documentElement.scrollWidth") <= width, where

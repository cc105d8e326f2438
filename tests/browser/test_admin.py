"""The admin in a real browser: ask, take back, try again; and what it looks like."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import transaction
from django.db.models import Model
from django.test import override_settings
from django.utils import timezone
from selenium.webdriver.common.by import By

import outbox
from inbox.models import DeadLetter, Receipt
from outbox.models import Message, Scheduled
from relay.brokers.base import Status
from relay.log import open_log
from relay.models import Checkpoint, Parked
from relay.transfer import transfer
from tests.browser.conftest import Person
from tests.inbox.admin.test_tools import reject
from tests.inbox.support import Handling, happened, receive
from tests.kit.admin_pages import detail_url, list_url
from tests.kit.support import Counted, RecordingBroker

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

MODELS: list[type[Model]] = [Message, Scheduled, Checkpoint, Parked, Receipt, DeadLetter]
WIDTHS = (390, 1400, 1920)
LONG = "refused by the broker of the warehouse in the north: " * 12


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    local = {"BACKEND": "relay.brokers.local.LocalBroker"}
    with override_settings(OUTBOX={"LANES": 1}, RELAYS={"default": local}):
        yield


@pytest.fixture(params=[True, False], ids=["scripts", "no scripts"])
def either_way(request: pytest.FixtureRequest, browser: Person) -> Person:
    """A browser that runs scripts, and one that does not."""
    browser.run_scripts(request.param)
    return browser


@pytest.fixture
def dead(handling: Handling) -> Receipt:
    """A receipt that a handler has rejected."""
    handling(reject)
    receive(happened(1))
    return Receipt.objects.get()


def emit(count: int = 1, **options: int) -> list[outbox.Envelope]:
    with transaction.atomic():
        return [outbox.emit(Counted(f"key-{n}", n), **options) for n in range(count)]


def park(count: int = 1) -> list[Parked]:
    broker = RecordingBroker()
    broker.refuse = {each.id: Status.UNROUTABLE for each in emit(count)}
    transfer(open_log("default", using="default"), broker, 0, 100)
    # Else its turn may come while somebody looks at it.
    Parked.objects.update(next_attempt_at=timezone.now() + timedelta(hours=1))
    return list(Parked.objects.order_by("pk"))


def state_of(row: Receipt | DeadLetter | Parked) -> str:
    row.refresh_from_db()
    return row.state


# --- Clicking through ----------------------------------------------------------------------------


def test_a_receipt(either_way: Person, dead: Receipt) -> None:
    """Discard it, after a no; take that back; have it retried."""
    browser = either_way
    browser.visit(dead)
    assert browser.buttons() == ["Retry", "Edit and retry", "Discard", "History"]
    browser.click("Discard")
    assert "Discard 1 receipt?" in browser.text
    assert dead.message_id[-8:] in browser.text
    browser.click("No, go back")
    assert (browser.place, state_of(dead)) == (detail_url(dead), "dead")
    browser.click("Discard")
    browser.click("Yes, discard")
    assert browser.told == ["1 receipt is discarded."]
    assert (browser.place, state_of(dead)) == (detail_url(dead), "discarded")
    assert browser.buttons() == ["Restore", "History"]

    browser.click("Restore")
    assert state_of(dead) == "dead"
    browser.click("Retry")

    assert browser.told == [
        "1 receipt is due now, with all its attempts: a consumer will handle it."
    ]
    assert state_of(dead) == "retrying"
    browser.click("History")
    assert all(each in browser.text for each in ("Discarded.", "Restored.", "Retried."))


def test_dead_letters(either_way: Person, handling: Handling) -> None:
    """Select two in the list, discard them, find them by the filter, restore, and receive one."""
    browser = either_way
    handling(reject)
    receive(*(happened(number, type="tests.unknown") for number in range(3)))
    first = DeadLetter.objects.earliest("pk")
    browser.visit(DeadLetter)
    for box in browser.all("input.action-select")[:2]:
        box.click()
    browser.choose("Discard the selected dead letters")
    assert "Discard 2 dead letters?" in browser.text
    browser.click("Yes, discard")
    link = "Show what is discarded, to restore it."
    assert browser.told == [f"2 dead letters are discarded. {link}"]
    assert state_of(first) == "dead"
    browser.click(link)
    assert browser.place == list_url(DeadLetter, "?state=discarded")
    browser.visit(DeadLetter)
    summary, *_ = browser.all(".outbox-filter summary")
    summary.click()
    browser.click("discarded")
    assert browser.place == list_url(DeadLetter, "?state=discarded")
    assert len(browser.all("#result_list tbody tr")) == 2

    browser.choose("Restore all dead letters that match")
    browser.click("Yes, restore")
    assert set(DeadLetter.objects.values_list("state", flat=True)) == {"dead"}
    handling(name="tests.late", pattern="tests.unknown")
    browser.visit(first)
    browser.click("Retry")

    assert browser.told == [
        "1 dead letter was received again, and has left these receipts: 1 processed."
    ]
    assert state_of(first) == "processed"


def test_a_parked_message(either_way: Person) -> None:
    """On the page of its message: discard it, take that back, try it again, and stay there."""
    browser = either_way
    [parked] = park()
    message = Message.objects.get(pk=parked.position)
    browser.visit(message)
    browser.click("Discard")
    assert "Discard 1 parked message?" in browser.text
    browser.click("Yes, discard")
    assert browser.told == ["1 parked message is discarded."]
    assert (browser.place, state_of(parked)) == (detail_url(message), "discarded")

    browser.click("Restore")
    assert (browser.place, state_of(parked)) == (detail_url(message), "dead")
    browser.click("Try again now")

    assert browser.told == ["1 parked message is due now: the relay tries it with its next turn."]
    assert (browser.place, state_of(parked)) == (detail_url(message), "parked")


def test_scheduled_messages(either_way: Person) -> None:
    """Cancel one on its page, and all others from the list."""
    browser = either_way
    emit(5, delay=3600)
    browser.visit(Scheduled.objects.latest("pk"))
    browser.click("Cancel")
    assert "This cannot be undone." in browser.text
    browser.click("No, go back")
    assert Scheduled.objects.count() == 5
    browser.visit(Scheduled.objects.latest("pk"))
    browser.click("Cancel")
    browser.click("Yes, cancel")
    assert browser.told == ["1 scheduled message is cancelled."]
    assert browser.place == list_url(Scheduled)

    browser.choose("Cancel all scheduled messages that match")
    assert "Cancel 4 scheduled messages?" in browser.text
    assert "and 1 more" in browser.text
    browser.click("Yes, cancel")

    assert browser.told == ["4 scheduled messages are cancelled."]
    assert not Scheduled.objects.exists()


# --- What it looks like --------------------------------------------------------------------------


@pytest.fixture
def rows(dead: Receipt) -> dict[type[Model], Model]:
    """A row of each model, with names, ids and errors that are long."""
    receive(happened(2, type="tests.unknown"))
    park(3)
    emit(2, delay=3600)
    name = "com.example.warehouse." * 8 + "replenished"
    Parked.objects.update(error=LONG, type=name, key="key-" * 50)
    Receipt.objects.update(error=LONG, type=name, handler="shop.place_an_order_" * 4)
    DeadLetter.objects.update(error=LONG, type=name)
    return {model: model._default_manager.earliest("pk") for model in MODELS}


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_off(width: int, browser: Person, rows: dict[type[Model], Model]) -> None:
    """No page is wider than its window, no list than its place, no row higher than needs be."""
    browser.resize(width)
    for where in (*MODELS, *rows.values()):
        browser.visit(where)
        wide = "return document.documentElement.scrollWidth"
        assert browser.run(wide) <= width, browser.place
        if isinstance(where, type):
            lists = "const r = document.querySelector('.results');"
            assert browser.run(f"{lists} return r.scrollWidth - r.clientWidth") <= 0, where
            heights = [row.size["height"] for row in browser.all("#result_list tbody tr")]
            assert heights, where
            assert max(heights) <= (60 if width > 500 else 160), (where, heights)


def test_on_a_phone_a_state_stands_beside_what_it_is_about(
    browser: Person, rows: dict[type[Model], Model]
) -> None:
    """However long that is; the rest is below."""
    browser.resize(390)
    for model in (Message, Parked, Receipt, DeadLetter):
        browser.visit(model)
        for row in browser.all("#result_list tbody tr"):
            [name] = row.find_elements(By.CSS_SELECTOR, "th")
            state = row.find_element(By.CSS_SELECTOR, ".outbox-badge")
            assert name.location["x"] + name.size["width"] <= state.location["x"], model
            end = max(each.location["y"] + each.size["height"] for each in (name, state))
            rest = row.find_elements(
                By.CSS_SELECTOR, "td:not(.action-checkbox, :has(.outbox-badge))"
            )
            assert all(each.location["y"] >= end for each in rest if each.is_displayed()), model


def test_a_question_fits_a_phone(browser: Person, rows: dict[type[Model], Model]) -> None:
    """Its buttons as well, one of which is red."""
    browser.resize(390)
    browser.visit(rows[Receipt])
    browser.click("Discard")

    assert browser.run("return document.documentElement.scrollWidth") <= 390
    yes, no = browser.all("#content .outbox-button")
    red, green, blue = map(int, _color(yes.value_of_css_property("background-color")))
    assert red > 2 * max(green, blue)
    assert no.location["x"] + no.size["width"] <= 390


def test_a_link_looks_like_one_and_a_click_takes_a_whole_id(
    browser: Person, rows: dict[type[Model], Model]
) -> None:
    """Shortened ids are copied as they are."""
    browser.visit(Receipt)
    found = browser.driver.find_element(By.CSS_SELECTOR, "td.field-listed_id .outbox-id")
    found.click()
    receipt = rows[Receipt]
    assert isinstance(receipt, Receipt)
    assert browser.run("return window.getSelection().toString()") == receipt.message_id
    assert found.get_attribute("title") == receipt.message_id

    for model in (Receipt, Parked, DeadLetter, Message):
        browser.visit(model)
        link = browser.driver.find_element(By.CSS_SELECTOR, "#result_list tbody th a")
        name = link.find_elements(By.CSS_SELECTOR, ".outbox-name")
        line = (name[0] if name else link).value_of_css_property("text-decoration-line")
        assert line == "underline", model


def _color(css: str) -> list[str]:
    """Return red, green and blue of a colour as a browser computes it."""
    return css.partition("(")[2].rstrip(")").split(", ")[:3]

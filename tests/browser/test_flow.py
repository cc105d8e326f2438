"""The flow in a real browser: thousands of messages, unfolding, mending; a peer that is away."""

from collections.abc import Iterator

import pytest
from django.db import transaction
from django.test import override_settings
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import outbox
from inbox.models import Receipt
from outbox.flow.outline import SHOWN
from outbox.message.envelope import Envelope
from tests.browser.conftest import Person
from tests.kit.support import Counted
from tests.outbox.flow.test_peers import hang, ok, peer, serving
from tests.outbox.flow.test_wire import message, state, told

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
FLOW = "/admin/django_outbox/messaging/flow/"
COUNT = 5_000


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    local = {"BACKEND": "relay.brokers.local.LocalBroker"}
    with override_settings(OUTBOX={"LANES": 1, "SOURCE": "/shop"}, RELAYS={"default": local}):
        yield


@pytest.fixture(params=[True, False], ids=["scripts", "no scripts"])
def either_way(request: pytest.FixtureRequest, browser: Person) -> Person:
    """A browser that runs scripts, and one that does not."""
    browser.run_scripts(request.param)
    return browser


def emit() -> Envelope:
    with transaction.atomic():
        return outbox.emit(Counted("42", 0))


def receipts(*messages: Envelope, **options: str) -> list[Receipt]:
    return Receipt.objects.bulk_create(
        Receipt(
            handler="tests.invoice",
            source=each.source,
            message_id=each.id,
            type=each.type,
            correlation_id=each.correlation_id,
            **options,
        )
        for each in messages
    )


def thousands() -> tuple[Envelope, list[Envelope]]:
    """Emit a message and COUNT that it has led to, three of which have failed."""
    root = emit()
    about = {"correlation_id": root.correlation_id, "causation_id": root.id}
    with outbox.use_context(**about), transaction.atomic():
        many = outbox.emit_many([Counted(f"row-{n}", n) for n in range(COUNT)])
    failed = many[1000::1000][:3]
    receipts(root, *(each for each in many if each not in failed))
    receipts(*failed, state="dead", error="no luck", headers="{}", body=b"{}")
    return root, many


def test_five_thousand_messages(either_way: Person) -> None:
    """Ask for them, open the fold, turn the pages, have one that failed retried, and be back."""
    browser = either_way
    root, many = thousands()
    browser.visit(FLOW)
    browser.driver.find_element(By.NAME, "of").send_keys(many[7].id)
    browser.click("Show the flow")

    assert f"Conversation {root.id}" in browser.text
    assert "5,001 messages" in browser.text
    assert "3 failed" in browser.text
    assert len(browser.all(".outbox-flow-item")) == 5
    assert len(browser.all("svg.outbox-flow-sequence a")) == 5
    assert browser.buttons().count("Retry") == 3

    browser.click("Show each")
    shown = browser.all(".outbox-flow-item")
    assert len(shown) == SHOWN
    assert browser.buttons().count("Retry") == 3  # what failed is shown, wherever it stands
    browser.click(f"and {COUNT + 1 - SHOWN:,} more")
    assert len(browser.all(".outbox-flow-item")) == SHOWN
    browser.driver.back()
    browser.driver.back()

    place = browser.place
    browser.click("Retry")
    assert browser.told == [
        "1 receipt is due now, with all its attempts: a consumer will handle it."
    ]
    assert browser.place == place
    assert "2 failed" in browser.text
    assert Receipt.objects.filter(state="retrying").count() == 1


def test_by_keyboard(browser: Person) -> None:
    """An arrow of the picture leads to the message in the list."""
    root, _ = thousands()
    browser.visit(f"{FLOW}?of={root.id}")
    arrow = browser.driver.find_element(By.CSS_SELECTOR, "svg.outbox-flow-sequence a")
    browser.run("document.querySelector('svg.outbox-flow-sequence a').focus()")
    assert browser.run("return document.activeElement.tagName") == "a"
    arrow.send_keys(Keys.ENTER)

    assert browser.place.endswith("#m1")
    assert browser.run("return document.querySelector(':target').id") == "m1"


@pytest.mark.parametrize("width", [390, 1400, 1920])
def test_nothing_is_cut_off(browser: Person, width: int) -> None:
    """Long names, ids and errors; what is wider than the page is scrolled in its place."""
    root, _ = thousands()
    Receipt.objects.filter(state="dead").update(error="refused " * 200, handler="handler." * 12)
    browser.resize(width)
    for address in (f"{FLOW}?of={root.id}&unfold={root.id}", f"{FLOW}?of=42&as=key", FLOW):
        browser.visit(address)
        page = "document.documentElement"
        assert browser.run(f"return {page}.scrollWidth <= {page}.clientWidth"), address
        wide = browser.run(
            "return [...document.querySelectorAll('.outbox-flow-causes *')]"
            ".filter(e => e.getBoundingClientRect().right > window.innerWidth + 1)"
            ".map(e => e.className)"
        )
        assert wide == [], address


def test_a_phone_has_the_table(browser: Person) -> None:
    """There is no room for a picture from left to right."""
    emit()
    browser.visit(FLOW)
    assert browser.driver.find_element(By.CSS_SELECTOR, "svg.outbox-flow-network").is_displayed()
    browser.resize(390)

    assert not browser.driver.find_element(
        By.CSS_SELECTOR, "svg.outbox-flow-network"
    ).is_displayed()
    assert "tests.counted" in browser.text


def test_a_peer_that_is_away(either_way: Person) -> None:
    """What is known here and by the others is shown; and who did not tell, and why."""
    browser = either_way
    root = emit()
    about = state(message_id=root.id, source="/shop", type=root.type, by="far.invoice")
    theirs = message(id="t1", causation_id=root.id, type="far.billed")
    body = told(correlation_id=root.id, messages=[theirs], stages=[about])
    with serving(ok(body)) as far, serving(hang) as away:
        peers = {"far": peer(far), "away": peer(away)}
        raw = {name: {"URL": each.URL, "TOKEN": each.TOKEN} for name, each in peers.items()}
        with override_settings(FLOW={"PEERS": raw}):
            browser.visit(f"{FLOW}?of={root.id}")

    assert "away did not tell: it did not answer in time" in browser.text
    assert "far ▸ far.invoice: dead" in browser.text
    assert "far.billed" in browser.text
    assert "2 messages" in browser.text

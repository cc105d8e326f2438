"""The page of failures: groups with notes, a canary, discarding and taking that back."""

import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from inbox import RetryPolicy
from inbox.failures import ReceiptFailures
from inbox.models import DeadLetter, Receipt
from outbox.admin.pages import failure_actions, failure_tables, failures
from outbox.extensions.failures import Sample
from outbox.failures.grouping import find
from outbox.failures.runs import Run
from outbox.models import DoneOnce, FailureNote
from tests.inbox.admin.test_tools import allow, log
from tests.inbox.support import Handling, happened, receive, turn
from tests.inbox.test_failures import RECEIPTS, Shop, dead, states
from tests.kit.admin_pages import (
    ALL_MODELS,
    confirmed,
    counted,
    detail_url,
    log_in,
    page,
    rows,
    shown,
)

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]
FAILURES = "/admin/django_outbox/messaging/failures/"


@pytest.fixture
def shop(handling: Handling) -> Shop:
    found = Shop(range(100))
    handling(found, retry=RetryPolicy(attempts=1), name="tests.billing")
    return found


@pytest.fixture
def staff(client: Client) -> Client:
    """Staff who may view everything and do nothing about it."""
    log_in(client, *ALL_MODELS)
    return client


def group_url(verb: str = "") -> str:
    [only] = find(RECEIPTS, "default").groups
    return f"{FAILURES}receipts/{only.fingerprint}/{verb}"


def posted(client: Client, url: str, **data: str) -> str:
    response = client.post(url, data, follow=True)
    assert response.status_code == 200
    return unescape(shown(response.content.decode()))


def go_on(client: Client, url: str) -> Any:
    return client.post(url, follow=True)


def last_url(response: Any) -> str:
    return str(response.redirect_chain[-1][0])


def run_at(response: HttpResponse) -> Run:
    """Return the run that an answer leads to; its address says when it was signed, too."""
    [token] = parse_qs(urlsplit(response.headers["Location"]).query)["run"]
    return Run.of(token)


def text_of(response: HttpResponse) -> str:
    return unescape(shown(response.content.decode()))


# --- The way there and back ---------------------------------------------------------------------


def test_a_row_leads_to_its_group_and_back(staff: Client, shop: Shop) -> None:
    """From the page of a receipt, and from a group to the list of such rows."""
    dead(1)
    receipt = Receipt.objects.get()
    text = page(staff, detail_url(receipt))
    link = f"{FAILURES}receipts/of/{receipt.pk}/"
    assert f'<a href="{link}">Show what fails alike</a>' in text

    response = staff.get(link, follow=True)
    assert last_url(response) == group_url()
    [rows_url] = re.findall(r'<a href="([^"]*)">Show such rows in the list', response.text)
    assert rows(staff, unescape(rows_url)) == [receipt]
    assert "tests.billing LookupError" in text_of(response)


def test_a_dead_letter_leads_to_its_group_and_back(staff: Client) -> None:
    """By its reason and group."""
    receive(happened(1, type="tests.unknown"))
    letter = DeadLetter.objects.get()
    assert "Show what fails alike" in page(staff, detail_url(letter))
    response = staff.get(f"{FAILURES}letters/of/{letter.pk}/", follow=True)
    [rows_url] = re.findall(r'<a href="([^"]*)">Show such rows in the list', response.text)

    assert rows(staff, unescape(rows_url)) == [letter]


def test_what_does_not_fail_has_no_group(staff: Client, shop: Shop, client: Client) -> None:
    """No link leads there, and an old one leads to all that fails; a wrong one, nowhere."""
    receive(happened(100))
    receipt = Receipt.objects.get(state="processed")
    assert "fails alike" not in page(staff, detail_url(receipt))
    response = staff.get(f"{FAILURES}receipts/of/{receipt.pk}/", follow=True)
    assert last_url(response) == FAILURES
    assert "It does not fail any more." in text_of(response)
    for rest in ("receipts/of/x/", "nothing/of/1/", f"receipts/of/{'9' * 19}/"):
        assert staff.get(FAILURES + rest).status_code == 404
    User.objects.get().user_permissions.remove(*Permission.objects.filter(codename="view_receipt"))
    assert staff.get(f"{FAILURES}receipts/of/{receipt.pk}/").status_code == 404


def test_the_overview_leads_to_what_fails(staff: Client, shop: Shop) -> None:
    """The numbers, and each finding; not those who may not look at that."""
    dead(1)
    receipt = Receipt.objects.get()
    receive(happened(1, type="tests.unknown"))
    text = page(staff, "/admin/django_outbox/messaging/overview/", counts=True)
    for source, told in (("receipts", "wait for a person"), ("letters", "no handler can use them")):
        assert f'<a href="{FAILURES}#outbox-section-{source}">{told}</a>' in text
    found = page(staff, "/admin/django_outbox/messaging/overview/?section=findings", counts=True)
    assert f'<a href="{FAILURES}receipts/of/{receipt.pk}/">Messages are dead' in found
    assert f'<a href="{FAILURES}letters/of/{DeadLetter.objects.get().pk}/">Dead letters' in found


# --- Looking -------------------------------------------------------------------------------------


def test_what_fails_is_shown_in_groups(staff: Client, shop: Shop) -> None:
    """Handler, class, text without values, place, how often, since when, and a drawing of that."""
    dead(1, 2, 30)
    receive(happened(1, type="tests.unknown"))
    html = page(staff, FAILURES)
    text = unescape(shown(html))

    assert "tests.billing LookupError no price for … inbox/test_failures.py:" in text
    assert "3 dead" in text
    assert 'title="raise LookupError(f&quot;no price for {number}&quot;)"' in html
    assert html.count('<svg class="outbox-spark"') == 2
    assert "At most 3 in 2 min, of the last 1 h" in text
    assert "no handler for its type" in text
    assert "No message is parked." in text


def test_the_page_costs_the_same_for_one_and_for_many(staff: Client, shop: Shop) -> None:
    """Rows and groups make no difference in the number of statements."""
    dead(1)
    page(staff, FAILURES)
    _, one = counted(staff, FAILURES)
    dead(*range(2, 20))
    for number in range(10):
        Receipt.objects.filter(message_id=f"m{number + 2}").update(handler=f"handler{number}")
    text, many = counted(staff, FAILURES)

    assert text.count("outbox-failure") == 11
    assert one == many


def test_each_sees_what_he_may_view(client: Client, shop: Shop) -> None:
    """Who may not view receipts sees what is parked only, and no group of receipts."""
    dead(1)
    url = group_url()
    log_in(client, "django_relay.parked")
    text = page(client, FAILURES)

    assert "Parked messages" in text
    assert "LookupError" not in text
    assert client.get(f"{FAILURES}?section=receipts").status_code == 404
    assert client.get(url).status_code == 404
    assert client.post(f"{url}retry/").status_code == 404
    User.objects.get().user_permissions.clear()
    assert client.get(FAILURES).status_code == 404


def test_hostile_text_is_shown_as_text(staff: Client, shop: Shop) -> None:
    """And secrets are not."""
    dead(1)
    Receipt.objects.update(
        handler="<b>h</b>",
        error="ValueError: <script>alert()</script> password=hunter2\u202e",
        traceback='  File "/<i>x</i>/<u>y</u>.py", line 1, in f\n    token = "abcdef"\n',
    )
    for url in (FAILURES, group_url()):
        text = page(staff, url)
        assert not re.search("<b>h|<script>alert|<i>x|<u>y", text)
        assert "&lt;b&gt;h&lt;/b&gt;" in text
        assert "hunter2" not in text
        assert "abcdef" not in text


def test_a_group_has_a_page(staff: Client, shop: Shop) -> None:
    """With an example, the rows, and nothing to click for who may do nothing."""
    dead(1, 2)
    text = page(staff, group_url())

    assert "LookupError: no price for 2" in text
    assert "Traceback (most recent call last)" in text
    assert all(f">{each}<" in text for each in ("m1", "m2"))
    assert "<form" not in text.split('id="content-main"')[1]


@pytest.mark.parametrize(
    "rest",
    [
        "nothing/" + "0" * 32 + "/",
        "receipts/0/",
        "receipts/" + "0" * 32,
        "receipts/" + "0" * 32 + "/nothing/",
        "receipts/" + "0" * 32 + "/run/",
        "receipts/" + "0" * 32 + "/run/?run=x",
        "receipts/" + "0" * 32 + "/discarded/?of=x",
    ],
)
def test_what_is_not_there_is_not_found(staff: Client, rest: str) -> None:
    """No such kind, group, verb or run."""
    assert staff.get(FAILURES + rest).status_code == 404


def test_a_group_that_is_gone_says_so(staff: Client) -> None:
    """Somebody may have mended it a moment ago."""
    text = page(staff, f"{FAILURES}receipts/{'0' * 32}/")
    assert "Nothing of it fails any more." in text


def test_only_the_newest_groups_are_shown(
    staff: Client, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And how many others there are; and that only a part of the rows was looked at."""
    monkeypatch.setattr(failure_tables, "SHOWN", 2)
    monkeypatch.setattr(ReceiptFailures.newest, "__defaults__", (4,))
    dead(*range(5))
    for number in range(5):
        Receipt.objects.filter(message_id=f"m{number}").update(handler=f"handler{number}")
    text = unescape(shown(page(staff, FAILURES)))

    assert "And 2 more groups. There are more: only the newest rows were looked at." in text
    assert "1+ dead" in text
    assert "handler4" in text
    assert "handler1" not in text


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="about PostgreSQL")
def test_what_takes_too_long_says_so(
    staff: Client, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the page, where the other kinds are shown, and on that of a group."""

    def slow(*args: object) -> Sample:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(5)")
        return Sample([])

    dead(1)
    url = group_url()
    monkeypatch.setattr(ReceiptFailures, "newest", slow)
    monkeypatch.setattr(failure_tables, "LIMIT", 0.05)
    monkeypatch.setattr(failures, "LIMIT", 0.05)
    allow("retry_receipt")

    text = page(staff, FAILURES)
    assert "There is too much of it to be read in time." in text
    assert "No message is parked." in text
    assert "There is too much of it to be read in time." in page(staff, url)
    assert "There is too much of it to be read in time." in posted(staff, f"{url}retry/")
    assert states() == {1: "dead"}


# --- Notes ---------------------------------------------------------------------------------------


def test_a_note_is_kept_with_its_author(staff: Client, shop: Shop) -> None:
    """Where it is shown, in the list too, and in the log of the admin."""
    dead(1)
    assert staff.post(group_url("note/"), {"text": "x"}).status_code == 403
    allow("change_failurenote")

    text = posted(staff, group_url("note/"), text="<i>Ann mends it</i>\r\ntoday")
    assert "The note is kept." in text
    note = FailureNote.objects.get()
    assert (note.text, note.author) == ("<i>Ann mends it</i>\ntoday", "viewer")
    assert "&lt;i&gt;Ann mends it&lt;/i&gt;" in page(staff, FAILURES)
    html = page(staff, group_url())
    assert "viewer has written this:" in html
    assert log() == [("viewer", "Has written: <i>Ann mends it</i>\ntoday")]

    seen = re.search(r'name="seen" value="([^"]+)"', html)
    assert seen is not None
    posted(staff, group_url("note/"), text="mended", seen=unescape(seen[1]))
    assert FailureNote.objects.get().text == "mended"


def test_nobody_overwrites_a_note_that_he_has_not_seen(staff: Client, shop: Shop) -> None:
    """The first one, or a change of it."""
    dead(1)
    allow("change_failurenote")
    posted(staff, group_url("note/"), text="first")
    for seen in ("", "2026-11-30T12:00:00+00:00", "x"):
        text = posted(staff, group_url("note/"), text="second", seen=seen)
        assert "Somebody else has written a note meanwhile" in text

    assert FailureNote.objects.get().text == "first"


# --- Trying again --------------------------------------------------------------------------------


def test_a_canary_that_holds(staff: Client, shop: Shop) -> None:
    """One is tried, then the rest; each is written down."""
    dead(1, 2, 3)
    assert staff.post(group_url("retry/")).status_code == 403
    assert staff.get(group_url("retry/")).status_code == 405
    allow("retry_receipt")
    shop.fails = ()
    assert "Try one, then the rest if it holds" in page(staff, group_url())

    response = go_on(staff, group_url("retry/"))
    url = last_url(response)
    assert states() == {1: "retrying", 2: "dead", 3: "dead"}
    text = text_of(response)
    assert "The first one is due, and waits for the process that tries it." in text
    assert "Handled 0 Failed again 0 Due, not tried yet 1 Left 2" in text
    assert "data-outbox-go-on" not in page(staff, url)
    turn()
    assert "The first one was handled." in page(staff, url)
    fragment = page(staff, f"{url}&section=run")
    assert "data-outbox-go-on" in fragment
    assert "<html" not in fragment

    response = go_on(staff, url)
    url = last_url(response)
    assert "Handled 1 Failed again 0 Due, not tried yet 2 Left 0" in text_of(response)
    turn()
    text = unescape(shown(page(staff, url)))
    assert "All were tried that had failed when this began." in text
    assert "Handled 3 Failed again 0 Due, not tried yet 0 Left 0" in text
    assert set(states().values()) == {"processed"}
    assert log() == [("viewer", "Retried.")] * 3


def test_a_canary_that_fails_again(staff: Client, shop: Shop) -> None:
    """Nothing else is touched, and it says why."""
    dead(1, 2, 3)
    allow("retry_receipt")
    url = last_url(go_on(staff, group_url("retry/")))
    turn()

    text = page(staff, url)
    assert "The first one has failed again, so all others are left as they are." in text
    assert "LookupError: no price for 1" in text
    assert "data-outbox-go-on" not in text
    go_on(staff, url)
    assert Receipt.objects.filter(attempts=1, state="dead").count() == 3
    assert log() == [("viewer", "Retried.")]


def test_who_may_not_retry_cannot_go_on_either(staff: Client, shop: Shop) -> None:
    """The address of a run allows nothing."""
    dead(1, 2)
    allow("retry_receipt")
    shop.fails = ()
    url = last_url(go_on(staff, group_url("retry/")))
    turn()
    User.objects.get().user_permissions.remove(Permission.objects.get(codename="retry_receipt"))

    assert "data-outbox-go-on" not in page(staff, url)
    assert staff.post(url).status_code == 403
    assert states() == {1: "processed", 2: "dead"}


def test_a_run_is_for_the_one_who_began_it(staff: Client, shop: Shop) -> None:
    """Others who may retry look at it, and begin runs of their own."""
    dead(1, 2)
    allow("retry_receipt")
    shop.fails = ()
    url = last_url(go_on(staff, group_url("retry/")))
    turn()
    other = Client()
    user = User.objects.create_user("other", is_staff=True)
    user.user_permissions.set(User.objects.get(username="viewer").user_permissions.all())
    other.force_login(user)

    assert "The first one was handled." in page(other, url)
    assert "data-outbox-go-on" not in page(other, url)
    assert other.post(url).status_code == 403
    assert states() == {1: "processed", 2: "dead"}
    assert other.post(group_url("retry/")).status_code == 302


def test_a_step_that_is_posted_twice_is_done_once(
    staff: Client, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second post leads to what came of the first; what nobody knows is a conflict."""
    monkeypatch.setattr(ReceiptFailures, "step", 1)
    dead(1, 2, 3, 4)
    allow("retry_receipt")
    shop.fails = ()
    url = last_url(go_on(staff, group_url("retry/")))
    turn()

    first, second = staff.post(url), staff.post(url)
    assert run_at(first) == run_at(second)
    assert states() == {1: "processed", 2: "retrying", 3: "dead", 4: "dead"}
    assert log() == [("viewer", "Retried.")] * 2

    DoneOnce.objects.update(answer=None)
    third = staff.post(url)
    assert third.status_code == 409
    assert "This step was begun before." in text_of(third)
    assert states() == {1: "processed", 2: "retrying", 3: "dead", 4: "dead"}


def test_a_run_is_begun_once_however_often_it_is_posted(staff: Client, shop: Shop) -> None:
    """A second click, or the back button, leads to what came of the first one."""
    dead(1, 2, 3, 4)
    allow("retry_receipt")
    shop.fails = ()
    first_page, second_page = (staff.get(group_url()).context["asked"] for _ in range(2))
    asked = {"asked": first_page}

    first, second = (staff.post(group_url("retry/"), asked) for _ in range(2))
    assert run_at(first) == run_at(second)
    assert list(states().values()).count("retrying") == 1
    assert log() == [("viewer", "Retried.")]
    assert "This had begun before." in page(staff, second.headers["Location"])

    turn()
    third = staff.post(group_url("retry/"), asked)
    assert run_at(third) == run_at(first)
    assert staff.post(group_url("retry/"), {"asked": second_page}).status_code == 302
    assert log() == [("viewer", "Retried.")] * 2


def test_who_clicks_while_it_begins_does_not_begin_another(staff: Client, shop: Shop) -> None:
    """He is led to the run if it is known, and back if it is not."""
    dead(1, 2, 3)
    allow("retry_receipt")
    asked = {"asked": staff.get(group_url()).context["asked"]}
    staff.post(group_url("retry/"), asked)
    begun, step = DoneOnce.objects.order_by("pk")

    DoneOnce.objects.filter(pk=step.pk).update(answer=None)
    response = staff.post(group_url("retry/"), asked)
    assert "/run/?run=" in response.headers["Location"]
    DoneOnce.objects.filter(pk=begun.pk).update(answer=None)
    assert "It is about to begin." in posted(staff, group_url("retry/"), **asked)
    assert log() == [("viewer", "Retried.")]


def test_a_run_belongs_to_its_group(staff: Client, shop: Shop) -> None:
    """Its address under another one is none."""
    dead(1, 2)
    allow("retry_receipt")
    fingerprint = find(RECEIPTS, "default").groups[0].fingerprint
    url = last_url(go_on(staff, group_url("retry/")))

    assert staff.get(url.replace(fingerprint, "0" * 32)).status_code == 404


def test_a_group_that_is_gone_is_not_tried(staff: Client) -> None:
    """It says so."""
    allow("retry_receipt")
    text = posted(staff, f"{FAILURES}receipts/{'0' * 32}/retry/")
    assert "Nothing of it fails any more, or all of it is in work." in text


def test_dead_letters_are_received_again(staff: Client, handling: Handling) -> None:
    """One first, at once."""
    receive(*(happened(number, type="tests.unknown") for number in range(3)))
    allow("retry_deadletter")
    html = page(staff, FAILURES)
    found = re.search(r'href="([^"]*/letters/[0-9a-f]{32}/)"', html)
    assert found is not None

    response = go_on(staff, f"{found[1]}retry/")
    assert "The first one has failed again" in text_of(response)
    handling(pattern="tests.unknown")
    response = go_on(staff, f"{found[1]}retry/")
    assert "The first one was handled." in text_of(response)
    response = go_on(staff, last_url(response))
    assert "All were tried" in text_of(response)
    assert not DeadLetter.objects.filter(state="dead").exists()


# --- Giving up -----------------------------------------------------------------------------------


def test_a_group_is_discarded_after_a_question_and_restored(staff: Client, shop: Shop) -> None:
    """What has come to it since the question is not meant; undo takes back exactly those."""
    dead(1, 2)
    assert staff.get(group_url("discard/")).status_code == 403
    allow("discard_receipt")
    url = group_url("discard/")
    asked = staff.get(url)
    assert "Discard 2 receipts?" in text_of(asked)
    assert states() == {1: "dead", 2: "dead"}
    dead(3)

    response = confirmed(staff, asked)
    assert states() == {1: "discarded", 2: "discarded", 3: "dead"}
    assert "2 receipts are discarded." in text_of(response)
    assert page(staff, last_url(response))
    Receipt.objects.filter(message_id="m3").update(state="discarded")

    text = posted(staff, last_url(response))
    assert "2 receipts are restored" in text
    assert states() == {1: "dead", 2: "dead", 3: "discarded"}
    assert log() == [("viewer", "Discarded.")] * 2 + [("viewer", "Restored.")] * 2


def test_a_bounded_number_is_discarded_at_once(
    staff: Client, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest first; the page that asks says that there are more."""
    monkeypatch.setattr(failure_actions, "BATCH", 2)
    dead(1, 2, 3)
    allow("discard_receipt")
    asked = staff.get(group_url("discard/"))
    assert "More match than can be changed at once" in text_of(asked)
    confirmed(staff, asked)

    assert states() == {1: "discarded", 2: "discarded", 3: "dead"}


def test_the_address_that_takes_back_a_thousand_is_short(staff: Client, shop: Shop) -> None:
    """However far their numbers are from each other; a proxy would refuse a long one."""
    start = timezone.now()
    Receipt.objects.bulk_create(
        Receipt(
            pk=number * 7_919 + number**3,
            handler="shop.note",
            source="/s",
            message_id=f"x{number}",
            state="dead",
            reason="failed",
            error="ValueError: no",
            changed=start,
        )
        for number in range(1, 1_001)
    )
    allow("discard_receipt")
    [group] = find(RECEIPTS, "default").groups
    response = confirmed(staff, staff.get(group_url("discard/")))
    url = last_url(response)
    assert "1,000 receipts are discarded." in text_of(response)
    assert len(url) < 200
    assert staff.get(url.replace("of=", "of=x")).status_code == 404
    other = url.replace(group.fingerprint, "0" * 32)
    assert staff.get(other).status_code == 404

    posted(staff, url)
    assert Receipt.objects.filter(state="dead").count() == 1_000


def test_what_fails_for_another_reason_since_is_not_discarded(staff: Client, shop: Shop) -> None:
    """The question was about others like it."""
    dead(1, 2)
    allow("discard_receipt")
    asked = staff.get(group_url("discard/"))
    Receipt.objects.filter(message_id="m1").update(error="ValueError: other", traceback=None)
    confirmed(staff, asked)

    assert states() == {1: "dead", 2: "discarded"}


def test_a_group_that_is_gone_is_not_discarded(staff: Client, shop: Shop) -> None:
    """Also between the question and the answer."""
    dead(1)
    allow("discard_receipt")
    asked = staff.get(group_url("discard/"))
    url = group_url("discard/")
    Receipt.objects.update(state="processed")

    assert "Nothing of it fails any more" in text_of(confirmed(staff, asked))
    assert "Nothing of it fails any more" in text_of(staff.get(url, follow=True))

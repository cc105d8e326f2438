"""What staff can do in the admin about messages that are not processed."""

import json
from typing import Any

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.urls import reverse

from inbox import Reject
from inbox.models import DeadLetter, Original, Receipt
from outbox.message.envelope import Envelope
from tests.inbox.support import Handling, effects, happened, receive, record, states, turn
from tests.kit.admin_pages import (
    ALL_MODELS,
    confirmed,
    counted,
    detail_url,
    list_url,
    log_in,
    page,
    rows,
    shown,
)

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


def reject(event: Any, message: Envelope) -> None:
    if getattr(event, "number", 0) < 100:
        raise Reject("too small")
    record(event, message)


@pytest.fixture
def staff(client: Client) -> Client:
    """Staff who may view everything and do nothing about it."""
    log_in(client, *ALL_MODELS)
    return client


def allow(*permissions: str) -> None:
    user = User.objects.get(username="viewer")
    for name in permissions:
        user.user_permissions.add(Permission.objects.get(codename=name))


def dead(handling: Handling, *numbers: int) -> list[Receipt]:
    """Dead receipts of a handler that takes only large numbers."""
    if not handling.names:
        handling(reject)
    for number in numbers:
        receive(happened(number))
    return list(Receipt.objects.filter(state="dead").order_by("id"))


def letter() -> DeadLetter:
    receive(happened(1, type="tests.unknown"))
    return DeadLetter.objects.latest("id")


def tool_url(what: str, row: Receipt | DeadLetter) -> str:
    return reverse(f"admin:django_inbox_{row._meta.model_name}_{what}", args=(row.pk,))


def log() -> list[tuple[str, str]]:
    """Who did what, as the admin's log has it."""
    found = LogEntry.objects.order_by("id").select_related("user")
    return [(entry.user.get_username(), entry.change_message) for entry in found]


# --- Pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?state=dead", 2),
        ("?state=retrying", 0),
        ("?state=processed", 1),
        ("?reason=rejected", 2),
        ("?reason=failed", 0),
        ("?state=dead&handler=record", 0),  # not a choice: a handler of this test alone
        ("?age=24", 0),
        ("?state=dead&age=1", 0),
    ],
)
def test_receipts_are_filtered(query: str, found: int, staff: Client, handling: Handling) -> None:
    """By state, reason and age, one or several."""
    dead(handling, 1, 2)
    receive(happened(200))
    if "handler" in query:
        handling.forget()
        found = 2

    assert len(rows(staff, list_url(Receipt, query))) == found


def test_a_page_shows_what_is_kept_without_its_secrets(staff: Client, handling: Handling) -> None:
    """State, error, attempts and the message, redacted."""
    handling(reject, pattern="tests.secret")
    receive(happened(type="tests.secret", data=b'{"password": "hunter2", "note": "seen"}'))
    text = page(staff, detail_url(Receipt.objects.get()))

    assert "too small" in text
    assert "its handler rejected it" in text
    assert "seen" in text
    assert "hunter2" not in text


def test_pages_mask_what_was_kept_before_it_was_masked(staff: Client, handling: Handling) -> None:
    """By an older release, or before a word was added to OUTBOX["REDACT"]: on every page."""
    handling(reject, ordered=True)
    receive(happened(1), happened(2))
    head, waiting = Receipt.objects.order_by("place", "id")
    said = "ValueError: password=hunter2 is refused"
    attempt = {"at": "2026-11-24T09:00:00+00:00", "error": said, "seconds": 0.1, "process": "p"}
    Receipt.objects.filter(pk=head.pk).update(
        error=said, traceback=f"Traceback\n{said}\n", last_attempts=json.dumps([attempt])
    )

    for url in (list_url(Receipt), detail_url(head), detail_url(waiting)):
        text = page(staff, url)
        assert "is refused" in text
        assert "hunter2" not in text


def test_a_waiting_receipt_leads_to_what_it_waits_behind(staff: Client, handling: Handling) -> None:
    """The head of its line, with its state and error."""
    handling(reject, ordered=True)
    receive(happened(1), happened(2), happened(3))
    head, _, last = Receipt.objects.order_by("place", "id")
    text = page(staff, detail_url(last))

    assert f'href="{detail_url(head)}"' in text
    assert "Waits behind" in text


@pytest.mark.parametrize("model", [Receipt, DeadLetter])
def test_actions_cost_a_list_nothing(
    model: type[Receipt | DeadLetter], staff: Client, handling: Handling
) -> None:
    """The same statements with and without permissions, for one row and for many."""
    dead(handling, 1)
    letter()
    _, without = counted(staff, list_url(model))
    name = model._meta.model_name
    allow(f"retry_{name}", f"discard_{name}")
    dead(handling, *range(2, 20))
    text, with_actions = counted(staff, list_url(model))

    limit = 3 if connection.vendor == "postgresql" else 0  # of time
    assert with_actions == without == limit + (5 if model is Receipt else 7)
    assert "Retry the selected" in text


# --- Permissions ---------------------------------------------------------------------------------


def test_viewing_is_not_enough(staff: Client, handling: Handling) -> None:
    """Neither buttons nor actions, and a request that is made up is refused."""
    for row in (*dead(handling, 1), letter()):
        text = page(staff, detail_url(row))
        assert tool_url("retry", row) not in text
        assert tool_url("edit", row) not in text
        for what in ("retry", "discard"):
            assert staff.post(tool_url(what, row)).status_code == 403
        assert staff.get(tool_url("edit", row)).status_code == 403
        staff.post(list_url(type(row)), {"action": "retry_matching", "index": "0"})
        staff.post(
            list_url(type(row)),
            {"action": "discard_selected", "_selected_action": [row.pk], "index": "0"},
        )

    assert states() == ["dead"]
    assert DeadLetter.objects.get().state == "dead"
    assert log() == []


@pytest.mark.parametrize("what", ["retry", "edit", "discard"])
def test_each_button_has_its_own_permission(what: str, staff: Client, handling: Handling) -> None:
    """Who may do one may not do the others."""
    [row] = dead(handling, 1)
    allow(f"{what}_receipt")
    text = page(staff, detail_url(row))

    shown_tools = [each for each in ("retry", "edit", "discard") if tool_url(each, row) in text]
    assert shown_tools == [what]


def test_a_button_takes_a_post(staff: Client, handling: Handling) -> None:
    """A link in a mail does nothing."""
    [row] = dead(handling, 1)
    allow("retry_receipt", "discard_receipt")

    assert staff.get(tool_url("retry", row)).status_code == 405
    assert states() == ["dead"]


# --- One row ---------------------------------------------------------------------------------


def test_retry(staff: Client, handling: Handling) -> None:
    """It is due at once; the log says who wanted it."""
    [row] = dead(handling, 1)
    allow("retry_receipt")

    response = staff.post(tool_url("retry", row), follow=True)

    assert "1 receipt is due now" in response.content.decode()
    assert states() == ["retrying"]
    assert log() == [("viewer", "Retried.")]
    assert turn().dead == 1
    history = staff.get(reverse("admin:django_inbox_receipt_history", args=(row.pk,)))
    assert "Retried." in history.content.decode()


def test_discard(staff: Client, handling: Handling) -> None:
    """It is over; it can be restored, and that is all."""
    [row] = dead(handling, 1)
    allow("discard_receipt", "retry_receipt")

    staff.post(tool_url("discard", row))

    assert states() == ["discarded"]
    assert log() == [("viewer", "Discarded.")]
    assert tool_url("retry", row) not in page(staff, detail_url(row))
    response = staff.post(tool_url("retry", row), follow=True)
    assert "Left alone: 1 discarded: that is over." in response.content.decode()
    assert states() == ["discarded"]


def test_what_is_left_alone_is_counted_by_state_with_the_reason(
    staff: Client, handling: Handling
) -> None:
    """In one sentence, beside what was done; also how many are gone."""
    handling(reject, ordered=True)
    receive(happened(1), happened(2), happened(200, key="other"))
    allow("retry_receipt")
    numbers = list(Receipt.objects.values_list("pk", flat=True))
    data = {"action": "retry_selected", ACTION_CHECKBOX_NAME: numbers}
    text = shown(staff.post(list_url(Receipt), data, follow=True).content.decode())

    assert "1 receipt is due now" in text
    assert (
        "Left alone: 1 processed: that is over; 1 waiting: it goes on by itself when what it waits "
        "for is processed." in text
    )


def test_a_letter_is_received_again(staff: Client, handling: Handling) -> None:
    """With the handlers of today."""
    row = letter()
    handling(pattern="tests.unknown")
    allow("retry_deadletter")

    staff.post(tool_url("retry", row))

    row.refresh_from_db()
    assert row.state == "processed"
    assert states() == ["processed"]
    assert log() == [("viewer", "Retried.")]


def test_a_letter_that_is_still_of_no_use_is_left_alone(staff: Client, handling: Handling) -> None:
    """It is said that today's error is with it."""
    row = letter()
    handling()
    allow("retry_deadletter")
    response = staff.post(tool_url("retry", row), follow=True)

    assert "Left alone: 1 dead: still of no use, as its error says" in shown(
        response.content.decode()
    )


def fill(client: Client, row: Receipt | DeadLetter, **changes: str) -> dict[str, str]:
    """The edit form of a row as a browser would send it back, and say yes to its changes."""
    form = client.get(tool_url("edit", row)).context["form"]
    found = {name: form[name].value() or "" for name in form.fields}
    found = {name: value.replace("\n", "\r\n") for name, value in found.items()}
    return {**found, **changes, "confirmed": "yes"}


def test_edit_and_retry(staff: Client, handling: Handling) -> None:
    """The message is changed, the original kept with who changed it, and it is handled."""
    [row] = dead(handling, 1)
    before = bytes(row.body or b"")
    allow("edit_receipt")

    body = '{\r\n"key": "k", "number": 100}'
    response = staff.post(tool_url("edit", row), fill(staff, row, body=body), follow=True)

    assert "It is edited, and due: a consumer will handle it." in response.content.decode()
    original = Original.objects.get()
    assert (bytes(original.body), original.edited_by) == (before, "viewer")
    assert log() == [("viewer", "Edited and retried; the original is kept.")]
    row.refresh_from_db()
    assert bytes(row.body or b"") == b'{\n"key": "k", "number": 100}'
    assert turn().handled == 1
    assert effects() == [100]
    assert "Before it was edited" in page(staff, detail_url(row))


def test_a_letter_is_edited_into_something_usable(staff: Client, handling: Handling) -> None:
    """Its headers as well; it stays the letter that it was, should it come again."""
    row = letter()
    handling()
    allow("edit_deadletter")
    headers = json.loads(row.headers) | {"ce-type": "tests.happened"}

    staff.post(tool_url("edit", row), fill(staff, row, headers=json.dumps(headers)))

    assert effects() == [1]
    after = DeadLetter.objects.get()
    assert (after.state, after.digest) == ("processed", row.digest)
    assert json.loads(Original.objects.get().headers)["ce-type"] == "tests.unknown"


def test_an_edit_is_shown_before_it_is_done(staff: Client, handling: Handling) -> None:
    """What goes and what comes, line by line; then yes, or back to the form with what was typed."""
    [row] = dead(handling, 1)
    allow("edit_receipt")
    form = fill(staff, row, body='{"key": "k",\r\n"number": 100, "note": "<b>"}')
    del form["confirmed"]

    text = staff.post(tool_url("edit", row), form).content.decode()

    assert "<del>-   &quot;number&quot;: 1\n</del>" in text
    assert "<ins>+   &quot;number&quot;: 100,\n</ins>" in text
    assert "<ins>+   &quot;note&quot;: &quot;&lt;b&gt;&quot;\n</ins>" in text
    assert shown(text).count("no change") == 2  # headers and content type
    assert states() == ["dead"]
    back = staff.post(tool_url("edit", row), {**form, "more": "yes"})
    assert back.context["form"]["body"].value() == form["body"]
    assert "outbox-diff" not in back.content.decode()
    assert not Original.objects.exists()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"headers": "[]"}, "This is no JSON object."),
        ({"headers": "{"}, "This is no JSON object."),
        ({"headers": "{}"}, "This is no message"),
        ({"body": "{oops"}, "The handler could not read it"),
        ({"seen": "x"}, "It has been changed meanwhile."),
    ],
)
def test_an_edit_that_cannot_be_is_refused(
    changes: dict[str, str], error: str, staff: Client, handling: Handling
) -> None:
    """In the form, and nothing has changed."""
    [row] = dead(handling, 1)
    allow("edit_receipt")

    response = staff.post(tool_url("edit", row), fill(staff, row, **changes))

    assert error in response.content.decode()
    assert states() == ["dead"]
    assert not Original.objects.exists()


@pytest.mark.parametrize("attribute", ["id", "source", "type", "partitionkey"])
def test_an_edit_does_not_make_it_another_message(
    attribute: str, staff: Client, handling: Handling
) -> None:
    """What the receipt is unique by, and its place in line, stay as they are."""
    [row] = dead(handling, 1)
    allow("edit_receipt")
    headers = json.loads(row.headers or "") | {f"ce-{attribute}": "tests.other"}

    response = staff.post(tool_url("edit", row), fill(staff, row, headers=json.dumps(headers)))

    assert "stays as it is" in shown(response.content.decode())
    assert states() == ["dead"]


def test_what_is_no_text_cannot_be_edited(staff: Client, handling: Handling) -> None:
    """A form would not bring it back as it was."""
    handling(reject, pattern="tests.picture")
    receive(happened(type="tests.picture", content_type="image/png", data=b"\x89PNG\xff"))
    allow("edit_receipt")

    response = staff.get(tool_url("edit", Receipt.objects.get()), follow=True)

    assert "This cannot be edited here" in response.content.decode()


def test_a_row_that_is_gone_is_not_found(staff: Client) -> None:
    """Retention may have been faster."""
    allow("retry_receipt", "edit_receipt")
    url = reverse("admin:django_inbox_receipt_retry", args=(999,))

    assert staff.post(url).status_code == 404
    assert staff.get(url.replace("retry", "edit")).status_code == 404


# --- Lists -----------------------------------------------------------------------------------


def test_the_selected_are_retried(staff: Client, handling: Handling) -> None:
    """Those and no others, each in the log."""
    one, two, three = dead(handling, 1, 2, 3)
    allow("retry_receipt")
    chosen = {"action": "retry_selected", "_selected_action": [one.pk, three.pk], "index": "0"}

    response = staff.post(list_url(Receipt), chosen, follow=True)

    assert "2 receipts are due now" in response.content.decode()
    assert states() == ["retrying", "dead", "retrying"]
    assert sorted(LogEntry.objects.values_list("object_id", flat=True)) == sorted(
        [str(one.pk), str(three.pk)]
    )
    two.refresh_from_db()
    assert two.state == "dead"


def test_all_that_match_are_discarded(staff: Client, handling: Handling) -> None:
    """What search and filters select, on whatever page, with nothing ticked."""
    dead(handling, 1, 2)
    receive(happened(3, data=b"{"))
    allow("discard_receipt")

    response = staff.post(
        list_url(Receipt, "?reason=rejected"),
        {"action": "discard_matching", "index": "0"},
    )
    assert states() == ["dead", "dead", "dead"]
    assert "Discard 2 receipts?" in response.content.decode()
    receive(happened(4))
    response = confirmed(staff, response)

    assert "2 receipts are discarded." in response.content.decode()
    assert states() == [
        "discarded",
        "discarded",
        "dead",
        "dead",
    ]  # the last came after the question


def test_a_search_narrows_what_matches(staff: Client, handling: Handling) -> None:
    """As it narrows the list."""
    one, _ = dead(handling, 1, 2)
    allow("retry_receipt")

    response = staff.post(
        list_url(Receipt, f"?q=state:dead+{one.message_id}"), {"action": "retry_matching"}
    )
    assert states() == ["dead", "dead"]
    assert "Retry 1 receipt?" in response.content.decode()
    confirmed(staff, response)

    assert states() == ["retrying", "dead"]


def test_one_request_changes_a_limited_number(
    staff: Client, handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And asks about the next ones, up to what was there at first, however much has come since."""
    monkeypatch.setattr("outbox.admin_support.bulk.BATCH", 2)
    dead(handling, 1, 2, 3, 4, 5)
    allow("retry_receipt")

    response = staff.post(list_url(Receipt, "?q=state:dead"), {"action": "retry_matching"})
    text = shown(response.content.decode())
    assert "Retry 2 receipts?" in text
    assert "5 match." in text
    receive(happened(6))
    response = confirmed(staff, response)
    text = shown(response.content.decode())
    assert "2 receipts are due now" in text
    assert "2 of 5 have had their turn." in text
    assert states() == ["retrying", "retrying", "dead", "dead", "dead", "dead"]
    response = confirmed(staff, response)
    assert "4 of 5 have had their turn." in shown(response.content.decode())
    response = confirmed(staff, response)

    assert response.redirect_chain
    assert states() == [*["retrying"] * 5, "dead"]


def test_what_a_batch_has_asked_about_and_matches_no_more_is_left(
    staff: Client, handling: Handling
) -> None:
    """Somebody else was faster."""
    one, _ = dead(handling, 1, 2)
    allow("discard_receipt")
    response = staff.post(list_url(Receipt, "?q=state:dead"), {"action": "discard_matching"})
    Receipt.objects.filter(pk=one.pk).update(state="processed")

    response = confirmed(staff, response)

    assert "1 receipt is discarded." in response.content.decode()
    assert states() == ["processed", "discarded"]


@pytest.mark.parametrize("text", ["state:deed", "nobody:x", '"', "%00", "a+%22b%22"])
def test_a_filter_that_cannot_be_used_does_nothing(
    staff: Client, handling: Handling, text: str
) -> None:
    """It selects nothing, not everything."""
    dead(handling, 1)
    allow("discard_receipt")

    for form in ({}, {"confirmed": "yes", "of": str(Receipt.objects.get().pk), "up-to": "9999"}):
        response = staff.post(
            list_url(Receipt, f"?q={text}"), {"action": "discard_matching", **form}, follow=True
        )
        assert "There are no receipts to which that can be done." in response.content.decode()
    assert states() == ["dead"]

"""What cannot be taken back is asked about first, and what can be is taken back, in the admin."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import transaction
from django.db.models import Model
from django.test import Client, override_settings
from django.urls import reverse

import outbox
from inbox import Retry
from inbox.models import DeadLetter, Receipt
from outbox.models import Message, Scheduled
from relay.brokers.base import Status
from relay.log import open_log
from relay.models import Parked
from relay.transfer import transfer
from tests.inbox.admin.test_tools import reject
from tests.inbox.support import Handling, happened, receive
from tests.kit.admin_pages import (
    ALL_MODELS,
    confirmed,
    counted,
    detail_url,
    list_url,
    log_in,
    page,
    shown,
)
from tests.kit.support import Counted, RecordingBroker

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

DISCARD: dict[type[Model], str] = {
    Receipt: "discard_selected",
    DeadLetter: "discard_selected",
    Parked: "discard",
}
COUNT = 5


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    local = {"BACKEND": "relay.brokers.local.LocalBroker"}
    with override_settings(OUTBOX={"LANES": 1}, RELAYS={"default": local}):
        yield


@pytest.fixture
def staff(client: Client) -> Client:
    """Staff who may view and do everything, but edit messages."""
    log_in(client, *ALL_MODELS)
    user = User.objects.get(username="viewer")
    for verb in ("retry", "discard", "requeue", "cancel"):
        user.user_permissions.add(*Permission.objects.filter(codename__startswith=f"{verb}_"))
    return client


@pytest.fixture
def dead(handling: Handling) -> dict[type[Model], list[Any]]:
    """Five rows of every model of which something can be given up, newest first."""
    handling(reject)
    receive(*(happened(number) for number in range(COUNT)))
    receive(*(happened(number, type="tests.unknown") for number in range(COUNT)))
    broker = RecordingBroker()
    with transaction.atomic():
        messages = outbox.emit_many(Counted(f"k{number}", number) for number in range(COUNT))
        for number in range(COUNT):
            outbox.emit("tests.counted", {"key": f"k{number}", "number": 1}, delay=600)
    broker.refuse = {each.id: Status.UNROUTABLE for each in messages}
    transfer(open_log("default", using="default"), broker, 0, 100)
    models: list[type[Model]] = [Receipt, DeadLetter, Parked, Scheduled]
    return {model: list(model._default_manager.order_by("-pk")) for model in models}


def url_of(row: Model, verb: str) -> str:
    meta = row._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_{verb}", args=(row.pk,))


def selected(client: Client, action: str, *rows: Model, query: str = "") -> Any:
    form = {"action": action, ACTION_CHECKBOX_NAME: [row.pk for row in rows], "index": "0"}
    return client.post(list_url(type(rows[0]), query), form, follow=True)


def states(model: type[Model]) -> set[str]:
    return set(model._default_manager.values_list("state", flat=True))


def log() -> list[str]:
    return list(LogEntry.objects.order_by("id").values_list("change_message", flat=True))


# --- Asking --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [*DISCARD, Scheduled])
def test_giving_up_asks_with_the_number_and_three_examples(
    model: type[Model], staff: Client, dead: dict[type[Model], list[Any]]
) -> None:
    """Nothing has happened then; the page says what would, and leads back to where it came from."""
    before = list(model._default_manager.order_by("pk").values())
    query = "?p=before-1000000"
    asked = selected(staff, DISCARD.get(model, "cancel_selected"), *dead[model], query=query)
    text = asked.content.decode()

    verb = "Cancel" if model is Scheduled else "Discard"
    assert f"{verb} 5 {model._meta.verbose_name_plural}?" in text
    assert [detail_url(row) in text for row in dead[model]] == [True] * 3 + [False] * 2
    assert "and 2 more" in text
    assert f'href="{list_url(model, query)}"' in text
    assert list(model._default_manager.order_by("pk").values()) == before
    assert log() == []


@pytest.mark.parametrize("model", list(DISCARD))
def test_a_yes_discards_what_was_shown_and_says_a_noun(
    model: type[Model], staff: Client, dead: dict[type[Model], list[Any]]
) -> None:
    """Of what was selected; one is singular."""
    *many, one = dead[model]
    names = model._meta.verbose_name_plural, model._meta.verbose_name
    text = shown(confirmed(staff, selected(staff, DISCARD[model], *many)).content.decode())
    assert f"4 {names[0]} are discarded. Show what is discarded, to restore it." in text

    text = shown(confirmed(staff, selected(staff, DISCARD[model], one)).content.decode())
    assert f"1 {names[1]} is discarded." in text
    assert states(model) == {"discarded"}
    assert log() == ["Discarded."] * 5


def test_cancelling_one_asks_as_well(staff: Client, dead: dict[type[Model], list[Any]]) -> None:
    """On the page of the row; afterwards the list is shown, as the row is gone."""
    row = dead[Scheduled][0]
    assert url_of(row, "cancel") in page(staff, detail_url(row))
    asked = staff.get(page_link(staff, row, "cancel"))
    assert "Cancel 1 scheduled message?" in asked.content.decode()
    assert Scheduled.objects.count() == COUNT

    response = confirmed(staff, asked)

    assert response.redirect_chain == [(list_url(Scheduled), 302)]
    assert "1 scheduled message is cancelled." in response.content.decode()
    assert Scheduled.objects.count() == COUNT - 1


def page_link(client: Client, row: Model, verb: str) -> str:
    """Return the address that the button of a row's page leads to."""
    [found] = [b for b in client.get(detail_url(row)).context["buttons"] if b.action.verb == verb]
    return str(found.url)


@pytest.mark.parametrize("model", list(DISCARD))
def test_the_page_of_a_row_asks(
    model: type[Model], staff: Client, dead: dict[type[Model], list[Any]]
) -> None:
    """The button is a link that does nothing yet; to say no leads back."""
    row = dead[model][0]
    address = url_of(row, "discard")
    assert f'<a class="outbox-button outbox-button-danger" href="{address}">' in page(
        staff, detail_url(row)
    )
    asked = staff.get(address)
    assert f"Discard 1 {model._meta.verbose_name}?" in asked.content.decode()
    assert f'href="{detail_url(row)}"' in asked.content.decode()
    assert "discarded" not in states(model)

    response = confirmed(staff, asked)

    assert response.redirect_chain == [(detail_url(row), 302)]
    row.refresh_from_db()
    assert row.state == "discarded"


def test_what_is_not_asked_about_is_left_out_of_the_question(
    staff: Client, dead: dict[type[Model], list[Any]]
) -> None:
    """What cannot be discarded is counted apart, and is not discarded if it could be by then."""
    Receipt.objects.filter(pk=dead[Receipt][0].pk).update(state="processed")
    asked = selected(staff, "discard_selected", *dead[Receipt])
    text = shown(asked.content.decode())
    assert "Discard 4 receipts?" in text
    assert "1 other that was selected is left alone" in text
    Receipt.objects.filter(pk=dead[Receipt][0].pk).update(state="dead")

    confirmed(staff, asked)

    assert list(Receipt.objects.order_by("pk").values_list("state", flat=True)) == [
        *["discarded"] * 4,
        "dead",
    ]


def test_a_question_without_the_permission(
    client: Client, dead: dict[type[Model], list[Any]]
) -> None:
    """It is neither asked nor answered for who may only look."""
    log_in(client, *ALL_MODELS)
    for model in (*DISCARD, Scheduled):
        row = dead[model][0]
        verb = "cancel" if model is Scheduled else "discard"
        assert client.get(url_of(row, verb)).status_code == 403
        assert client.post(url_of(row, verb), {"confirmed": "yes"}).status_code == 403
        form = {"confirmed": "yes", "of": str(row.pk), ACTION_CHECKBOX_NAME: [row.pk]}
        for action in (f"{verb}_matching", f"{verb}_selected", verb):
            client.post(list_url(model), {"action": action, **form})

    assert states(Receipt) == states(DeadLetter) == {"dead"}
    assert states(Parked) == {"parked"}
    assert Scheduled.objects.count() == COUNT


def test_a_yes_that_is_forged_needs_its_token(dead: dict[type[Model], list[Any]]) -> None:
    """Another site cannot have a browser say it."""
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.create_superuser("root"))
    row = dead[Receipt][0]

    assert strict.post(url_of(row, "discard"), {"confirmed": "yes"}).status_code == 403
    assert states(Receipt) == {"dead"}


def test_the_page_that_asks_says_so_in_its_title_and_leads_back(
    staff: Client, dead: dict[type[Model], list[Any]]
) -> None:
    """About one row through the row, about several through the list."""
    for model, [first, second, *_] in dead.items():
        verb = "cancel" if model is Scheduled else "discard"
        names = model._meta.verbose_name, model._meta.verbose_name_plural
        one = page(staff, url_of(first, verb))
        two = selected(staff, DISCARD.get(model, "cancel_selected"), first, second)
        for text, count, name in ((one, 1, names[0]), (two.content.decode(), 2, names[1])):
            title = f"{verb.capitalize()} {count} {name}?"
            assert f"<title>{title} |" in text
            assert f"<h1>{title}</h1>" in text
            way = text.partition('class="breadcrumbs"')[2].partition("</div>")[0]
            assert list_url(model) in way
            assert (detail_url(first) in way) == (count == 1)


# --- Taking back ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", list(DISCARD))
def test_what_was_discarded_is_restored(
    model: type[Model], staff: Client, dead: dict[type[Model], list[Any]]
) -> None:
    """By the button of its page, or as selected; the history tells."""
    first = dead[model][0]
    confirmed(staff, selected(staff, DISCARD[model], *dead[model]))
    response = staff.post(url_of(first, "restore"), follow=True)
    first.refresh_from_db()
    assert first.state == "dead"
    assert f"1 {model._meta.verbose_name} is restored" in shown(response.content.decode())

    response = selected(staff, DISCARD[model].replace("discard", "restore"), *dead[model])

    text = shown(response.content.decode())
    assert f"4 {model._meta.verbose_name_plural} are restored" in text
    assert "Left alone: 1 dead: nobody has discarded it." in text
    assert states(model) == {"dead"}
    assert log() == ["Discarded."] * 5 + ["Restored."] * 5


def test_what_the_log_has_lost_is_left_alone(
    staff: Client, dead: dict[type[Model], list[Any]]
) -> None:
    """And why."""
    row = dead[Parked][0]
    confirmed(staff, selected(staff, "discard", row))
    Message.objects.filter(pk=row.position).delete()

    text = shown(staff.post(url_of(row, "restore"), follow=True).content.decode())

    assert "Left alone: 1 discarded: its message is no longer in the log." in text


# --- Where the row is ----------------------------------------------------------------------------


def test_the_page_of_a_message_has_the_buttons_of_what_became_of_it(
    staff: Client, dead: dict[type[Model], list[Any]]
) -> None:
    """Each leads back there, and costs no statement."""
    parked = dead[Parked][0]
    message = Message.objects.get(pk=parked.position)
    receipt = dead[Receipt][0]
    Receipt.objects.filter(pk=receipt.pk).update(
        message_id=str(message.message_id), source=message.source
    )
    text, statements = counted(staff, detail_url(message))
    for row, verb in ((parked, "requeue"), (parked, "discard"), (receipt, "retry")):
        assert f"{url_of(row, verb)}?next=" in text
    Receipt.objects.filter(pk=receipt.pk).update(state="processed")
    assert counted(staff, detail_url(message))[1] == statements

    address = f"{url_of(parked, 'requeue')}?next={detail_url(message)}"
    assert staff.post(address, follow=True).redirect_chain == [(detail_url(message), 302)]


def test_nobody_is_led_to_another_site(staff: Client, dead: dict[type[Model], list[Any]]) -> None:
    """By a link that somebody made up."""
    row = dead[Parked][0]
    for foreign in ("https://evil.example/", "//evil.example/", "javascript:alert(1)"):
        response = staff.post(f"{url_of(row, 'requeue')}?next={foreign}")
        assert response.headers["Location"] == detail_url(row)


# --- No false green ------------------------------------------------------------------------------


def levels(response: Any) -> list[tuple[str, str]]:
    return [(each.level_tag, str(each)) for each in response.context["messages"]]


def test_a_letter_whose_handler_fails_is_no_success(
    staff: Client, dead: dict[type[Model], list[Any]], handling: Handling
) -> None:
    """Receiving it worked; what its handlers made of it is told, and not in green."""

    def ask_again(event: Any, message: Any) -> None:
        raise Retry("not yet")

    one, two, *_ = dead[DeadLetter]
    handling(ask_again, name="again", pattern="tests.unknown")
    found = levels(staff.post(url_of(one, "retry"), follow=True))
    told = "1 dead letter was received again, and has left these receipts: 1 retrying."
    assert found == [("warning", told)]
    handling(name="well", pattern="tests.unknown")

    [(level, text)] = levels(staff.post(url_of(two, "retry"), follow=True))

    assert level == "warning"
    assert "1 processed, 1 retrying." in text


def test_a_letter_that_an_edit_does_not_mend_is_no_success(
    staff: Client, dead: dict[type[Model], list[Any]]
) -> None:
    """It is told that it is still of no use, and why."""
    user = User.objects.get(username="viewer")
    user.user_permissions.add(Permission.objects.get(codename="edit_deadletter"))
    row = dead[DeadLetter][0]
    form = staff.get(url_of(row, "edit")).context["form"].initial | {"confirmed": "yes"}

    [(level, text)] = levels(staff.post(url_of(row, "edit"), form, follow=True))

    assert level == "warning"
    assert "still of no use: No handler of group 'g' for tests.unknown" in text

"""Who did what, and when: the page about what people did."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.test import Client
from django.utils import timezone

from inbox.models import DeadLetter, Receipt
from outbox.admin_support import keyset
from outbox.operations import BEGUN
from outbox.reports import doings as reports
from tests.kit.admin_pages import ALL_MODELS, counted, log_in, page, shown
from tests.kit.api import VIEW, Caller

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]
PAGE = "/admin/django_outbox/messaging/doings/"
SEES = "admin.logentry"


@pytest.fixture(autouse=True)
def _types() -> Iterator[None]:
    yield
    ContentType.objects.clear_cache()


def did(
    what: str,
    count: int = 1,
    *,
    who: str = "anna",
    model: type[Model] = Receipt,
    minutes_ago: float = 0,
    first: int = 1,
) -> None:
    user, _ = User.objects.get_or_create(username=who)
    moment = timezone.now() - timedelta(minutes=minutes_ago)
    LogEntry.objects.bulk_create(
        LogEntry(
            user=user,
            content_type=ContentType.objects.get_for_model(model),
            object_id=str(number),
            object_repr=f"row {number}",
            action_flag=CHANGE,
            change_message=what,
            action_time=moment,
        )
        for number in range(first, first + count)
    )


def test_what_was_done_to_many_is_one_line(client: Client) -> None:
    """With their number, and links to the first; the newest stands first."""
    log_in(client, SEES, *ALL_MODELS)
    did("Retried.", 1, minutes_ago=9)
    did("Discarded.", 240)
    text = page(client, PAGE)

    assert "Discarded. 240 receipts row 240 row 239 row 238" in shown(text)
    assert "Retried. 1 receipt row 1" in shown(text)
    assert text.index("Discarded.") < text.index("Retried.")
    assert 'href="/admin/django_inbox/receipt/240/change/"' in text


def test_what_is_not_the_same_is_not_one(client: Client) -> None:
    """Another person, another action, another kind of row, or another time."""
    log_in(client, SEES, *ALL_MODELS)
    did("Retried.", 2, minutes_ago=5)
    did("Retried.", 3)
    did("Retried.", 4, who="bert")
    did("Retried.", 5, model=DeadLetter)
    did("Discarded.", 6, model=DeadLetter)
    text = shown(page(client, PAGE))

    for told in (
        *("anna Retried. 2 receipts", "anna Retried. 3 receipts", "bert Retried. 4 receipts"),
        *("anna Retried. 5 dead letters", "anna Discarded. 6 dead letters"),
    ):
        assert told in text


def test_filters(client: Client) -> None:
    """By who, and by what; an unknown user did nothing, an unknown kind of row is not asked for."""
    log_in(client, SEES, *ALL_MODELS)
    did("Retried.")
    did("Restored.", who="bert")
    did("Discarded.", model=DeadLetter)

    assert "Restored." not in (text := page(client, f"{PAGE}?user=anna"))
    assert "Retried." in text
    text = page(client, f"{PAGE}?model=django_inbox.deadletter")
    assert ("Retried." in text, "Discarded." in text) == (False, True)
    assert "Nobody did anything here." in page(client, f"{PAGE}?user=nobody")
    assert "Retried." in page(client, f"{PAGE}?model=auth.user")
    assert page(client, f"{PAGE}?user=%22%3E%3Cb%3E&p=x")


def test_what_one_may_not_look_at_is_not_told(client: Client) -> None:
    """Nor what people did to rows that are none of ours; without the log there is no page."""
    did("Retried.")
    did("Discarded.", model=DeadLetter)
    did("Renamed.", model=User)
    log_in(client, SEES, "django_inbox.deadletter")
    text = page(client, PAGE)

    assert "Discarded." in text
    assert "Retried." not in text
    assert "Renamed." not in text
    assert "Receipts</option>" not in text


def test_who_may_not_look_into_the_log_has_no_such_page(client: Client) -> None:
    """It is Django's own permission."""
    log_in(client, *ALL_MODELS)

    assert client.get(PAGE).status_code == 404
    assert "doings/" not in page(client, "/admin/django_outbox/messaging/", counts=True)


def test_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older and back, by key: each doing is on one page."""
    monkeypatch.setattr(reports, "SHOWN", 2)
    log_in(client, SEES, *ALL_MODELS)
    for number in range(5):
        did(f"Act {number}.", 3, minutes_ago=10 - number)

    seen, place = [], None
    while True:
        found = reports.doings([Receipt], place)
        seen.append([each.last.change_message for each in found.doings])
        assert all(len(each.entries) == 3 for each in found.doings)
        if found.older is None:
            break
        place = found.older
    assert seen == [["Act 4.", "Act 3."], ["Act 2.", "Act 1."], ["Act 0."]]
    assert found.newer is not None
    back = reports.doings([Receipt], found.newer)
    assert [each.last.change_message for each in back.doings] == ["Act 2.", "Act 1."]
    assert "Older" in page(client, PAGE)
    assert "Newest" in page(client, f"{PAGE}?p={place}&user=anna")


def test_more_rows_than_a_page_reads(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """At least so many; the next page goes on with them."""
    monkeypatch.setattr(reports, "READ", 100)
    log_in(client, SEES, *ALL_MODELS)
    did("Discarded.", 130)

    assert "100+ receipts" in shown(page(client, PAGE))
    found = reports.doings([Receipt])
    assert len(reports.doings([Receipt], found.older).doings[0].entries) == 30


def test_much_of_others_in_the_log(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page looks at a part of it, and says where to look on."""
    monkeypatch.setattr(keyset, "SPAN", 20)
    log_in(client, SEES, *ALL_MODELS)
    did("Retried.")
    did("Renamed.", 50, model=User)

    found = reports.doings([Receipt])
    assert (list(found.doings), found.older is None) == ([], False)
    assert "Older" in page(client, PAGE)


def test_hostile_texts(client: Client) -> None:
    """Names of rows and reasons are anybody's."""
    log_in(client, SEES, *ALL_MODELS)
    did("<script>alert(1)</script>", who="<i>x")
    LogEntry.objects.update(object_repr="<b>", object_id="no number")

    text = page(client, PAGE)
    assert "<script>alert" not in text
    assert "<i>x" not in text
    assert "<b>" not in text


def test_statements(client: Client) -> None:
    """The same for few and for many."""
    log_in(client, SEES, *ALL_MODELS)
    did("Retried.")
    _, few = counted(client, PAGE)
    for number in range(30):
        did(f"Act {number}.", 10, who=f"user {number}")
    _, many = counted(client, PAGE)

    assert few == many
    assert few <= 10


def test_a_user_who_is_not_there_any_more_harms_nothing(client: Client) -> None:
    """Deleted without Django, say: the page and the API name the key."""
    log_in(client, SEES, *ALL_MODELS)
    did("Discarded.", who="gone")
    gone = User.objects.get(username="gone")
    rows = User.objects.filter(pk=gone.pk)
    rows._raw_delete(rows.db)
    assert f"#{gone.pk}" in shown(page(client, PAGE))
    viewer = Caller("api", *VIEW)
    assert [each["user"] for each in viewer.get("doings")["results"]] == [f"#{gone.pk}"]
    LogEntry.objects.all().delete()  # a database with foreign keys would look at the end


def test_what_was_begun_and_has_no_end_says_so(client: Client) -> None:
    """In the words of whoever reads it: what was begun, and that nobody knows of its end."""
    log_in(client, "admin.logentry", *ALL_MODELS)
    did(f"{BEGUN} Discarded. Why not")

    assert "Begun, and not known to be done. Discarded. Why not" in page(client, PAGE)
    german = client.get(PAGE, headers={"accept-language": "de"}).text
    assert "Begonnen; ob es getan ist, ist nicht bekannt. Verworfen. Why not" in german

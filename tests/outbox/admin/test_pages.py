"""The pages under "Messaging": one entry, tabs for what one may see, sections by themselves."""

import re
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse

from inbox.models import Receipt
from outbox.admin_support.blocks import Block, Panel
from outbox.admin_support.once import once
from outbox.extensions import pages
from outbox.extensions.pages import Page, Section, page_url, register_page, register_section
from outbox.models import Message
from tests.kit.admin_pages import ALL_MODELS, detail_url, list_url, log_in, page, shown

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]
ENTRY = "/admin/django_outbox/messaging/"


@pytest.fixture(autouse=True)
def _own_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test registers what it needs, for itself."""
    monkeypatch.setattr(pages, "_pages", dict(pages._pages))
    monkeypatch.setattr(pages, "_sections", dict(pages._sections))


def panel(text: str) -> Iterator[Block]:
    yield Panel(title="a panel", empty=text)


def section(name: str, **options: object) -> None:
    given = {
        "page": "overview",
        "title": name,
        "build": lambda request, using: panel(f"text of {name}"),
        "models": [Message],
    } | options
    register_section(Section(name=name, **given))  # type: ignore[arg-type]


def test_one_entry_of_the_index_leads_to_the_overview(client: Client) -> None:
    """For staff who may view anything that it shows."""
    log_in(client, "django_outbox.message")

    assert f'href="{ENTRY}"' in page(client, reverse("admin:index"))
    assert "Findings" in shown(page(client, ENTRY, counts=True))
    assert 'aria-current="page"' in page(client, f"{ENTRY}overview/", counts=True)


def test_who_may_view_nothing_of_it_sees_no_entry(client: Client) -> None:
    """Nor does anybody who is no member of staff."""
    log_in(client)
    assert ENTRY not in page(client, reverse("admin:index"))
    assert client.get(ENTRY).status_code == 404

    client.force_login(User.objects.create_user("customer"))
    assert client.get(ENTRY).status_code == 302


def test_sections_and_pages_are_there_for_who_may_view_all_of_their_models(client: Client) -> None:
    """Whoever may see receipts only has a page of what is about receipts."""
    section("receipts", models=[Receipt])
    section("both", models=[Receipt, Message])

    def view(request: HttpRequest, rest: str, context: object) -> HttpResponse:
        return HttpResponse(f"seen {rest}")

    register_page(Page(name="hidden", title="Hidden", place=1, models=[Message], view=view))
    log_in(client, "django_inbox.receipt")

    text = page(client, ENTRY)
    assert "text of receipts" in text
    assert "text of both" not in text
    assert "Hidden" not in text
    assert client.get(f"{ENTRY}hidden/").status_code == 404
    assert client.get(f"{ENTRY}overview/?section=both").status_code == 404


def test_a_page_with_a_view_answers_below_its_address_too(client: Client) -> None:
    """With what comes behind its name."""

    def view(request: HttpRequest, rest: str, context: object) -> HttpResponse:
        return HttpResponse(f"seen {rest}")

    register_page(Page(name="shown", title="Shown", place=1, models=[Message], view=view))
    log_in(client, "django_outbox.message")
    request = RequestFactory().get("/")

    assert client.get(page_url(request, "shown", "a/b")).content == b"seen a/b"
    assert client.get(ENTRY).content == b"seen "  # the first of those that one may see
    assert client.get(f"{ENTRY}overview/x").status_code == 404
    assert client.get(f"{ENTRY}nothing/").status_code == 404


def test_a_section_that_fails_takes_no_other(client: Client) -> None:
    """It says why, in its place."""

    def fails(request: HttpRequest, using: str) -> Iterator[Block]:
        yield Panel(title="half")
        raise ValueError("<b>broken</b>")

    section("fails", build=fails, place=1)
    section("other", place=2)
    log_in(client, "django_outbox.message")

    text = page(client, f"{ENTRY}overview/", counts=True)
    assert "It cannot be shown: ValueError: &lt;b&gt;broken&lt;/b&gt;" in text
    assert "text of other" in text


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="about PostgreSQL")
def test_a_section_that_takes_too_long_says_so(client: Client) -> None:
    """And its transaction is over, so that the others can be read."""

    def slow(request: HttpRequest, using: str) -> Iterator[Block]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(5)")
        yield Panel(title="done")

    section("slow", build=slow, limit=0.05)
    log_in(client, "django_outbox.message")

    text = page(client, f"{ENTRY}overview/", counts=True)
    assert "There is too much of it to be read in time." in text
    assert "Findings" in text


def test_a_section_is_read_anew_by_itself(client: Client) -> None:
    """What the script of the page asks for: no page around it."""
    section("one", every=7.0)
    section("two")
    log_in(client, "django_outbox.message")

    text = page(client, f"{ENTRY}overview/?section=one")
    assert "text of one" in text
    assert "text of two" not in text
    assert "<html" not in text
    assert 'data-outbox-every="7"' in text
    assert client.get(f"{ENTRY}overview/?section=none").status_code == 404


def test_a_lazy_section_is_read_when_the_page_is_there(client: Client) -> None:
    """By the script of the page, or by a link where none runs; others are there at once."""
    built: list[str] = []

    def slow(request: HttpRequest, using: str) -> Iterator[Block]:
        built.append("slow")
        return panel("asked a broker")

    section("slow", build=slow, lazy=True)
    section("other")
    log_in(client, "django_outbox.message")
    address = f"{ENTRY}overview/"

    text = page(client, address)
    assert "text of other" in text
    assert (built, "asked a broker" in text) == ([], False)
    assert 'href="?show=slow#outbox-section-slow"' in text
    assert text.count("data-outbox-lazy") == 2  # and the findings

    for query in ("?section=slow", "?show=slow"):
        text = page(client, address + query)
        assert "asked a broker" in text
        assert 'href="?show=slow' not in text
    assert len(built) == 2


def test_no_two_elements_of_a_page_have_one_id(client: Client) -> None:
    """However many sections have panels."""
    section("one")
    section("two")
    log_in(client, *ALL_MODELS)

    ids = re.findall(r'\sid="([^"]+)"', page(client, f"{ENTRY}overview/", counts=True))
    assert sorted(ids) == sorted(set(ids))


def test_what_several_sections_show_is_read_once() -> None:
    """For one request; the next one reads anew."""
    reads: list[int] = []

    def read() -> int:
        reads.append(1)
        return len(reads)

    first, second = RequestFactory().get("/"), RequestFactory().get("/")

    assert [once(first, "a", read), once(first, "a", read)] == [1, 1]
    assert once(first, "b", read) == 2
    assert once(second, "a", read) == 3


def test_lists_and_rows_have_the_tabs_as_well(client: Client) -> None:
    """From wherever one is, the overview is a click away."""
    receipt = Receipt.objects.create(
        handler="h", message_id="m", source="/s", type="t", state="processed", attempts=1
    )
    log_in(client, "django_inbox.receipt")

    for url in (list_url(Receipt), detail_url(receipt)):
        text = page(client, url)
        assert f'href="{ENTRY}overview/"' in text
        assert f'href="{ENTRY}doings/"' not in text  # not for this viewer

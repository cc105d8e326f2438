"""docs/how-to/overview.md and observe.md say what is on the pages."""

import re
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.test import Client
from PIL import Image

from inbox.reports.gauges import COUNTED as COUNTED_THERE
from outbox.extensions.pages import Section, pages, sections
from outbox.reports.history import LOOKED_AT
from relay.reports.gauges import COUNTED
from tests.kit.admin_pages import ALL_MODELS, log_in, page, shown

DOCS = Path(__file__).resolve().parents[2] / "docs"
OVERVIEW = (DOCS / "how-to/overview.md").read_text()
PICTURES = DOCS / "pictures"
MESSAGING = "/admin/django_outbox/messaging/"
LARGEST = 150_000


def rows(heading: str) -> list[tuple[str, str]]:
    """Return the first two cells of each row of the table with this heading."""
    table = OVERVIEW.partition(f"| {heading} |")[2].partition("\n\n")[0]
    return re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|$", table, re.M)


@pytest.fixture
def staff(client: Client) -> Client:
    compared = ("django_outbox.reconciliation", "django_outbox.break")
    log_in(client, "admin.logentry", *ALL_MODELS, *compared)
    return client


@pytest.mark.django_db
def test_the_table_has_the_pages_in_their_order(staff: Client) -> None:
    """Each is there under this name, and can be opened."""
    text = page(staff, f"{MESSAGING}overview/", counts=True)
    tabs = re.findall(r"<a href=\"([^\"]+)\"[^>]*>([^<]+)</a>", text.partition("outbox-tabs")[2])

    names = [name for name, _ in rows("page")]
    assert names == [str(each.title) for each in pages()]
    assert [name for _, name in tabs[: len(names)]] == names
    for url, _ in tabs[: len(names)]:
        assert staff.get(url, follow=True).status_code == 200


@pytest.mark.django_db
def test_the_six_figures_are_links(staff: Client) -> None:
    """As the page names them."""
    said = dict(rows("page"))["Overview"]
    text = page(staff, f"{MESSAGING}overview/", counts=True)
    figures = re.findall(r"<dt>([^<]+)</dt>\s*<dd><a href=", text)

    assert said.startswith("six figures")
    assert len(figures) == 6
    assert set(figures) == {
        *("Oldest pending", "Parked", "Retrying", "Dead", "Dead letters", "Scheduled late")
    }
    for name in figures:
        assert name.lower().removesuffix(" late") in said.lower()


@pytest.mark.django_db
def test_the_charts_are_those_of_the_table(staff: Client) -> None:
    """Each has a line of this name, and it is read from what exists."""
    text = shown(page(staff, f"{MESSAGING}overview/", counts=True))

    for names, _ in rows("chart"):
        for name in names.split(", "):
            assert name.lower() in text.lower()


@pytest.mark.django_db
def test_doings_need_the_permission_to_view_the_log(client: Client) -> None:
    """Without it there is no such page."""
    log_in(client, *ALL_MODELS)
    assert "`view_logentry`" in dict(rows("page"))["Doings"]
    assert client.get(f"{MESSAGING}doings/").status_code == 404
    found = Permission.objects.get(codename="view_logentry")
    User.objects.get().user_permissions.add(found)

    assert client.get(f"{MESSAGING}doings/").status_code == 200
    ContentType.objects.clear_cache()


def test_its_numbers_are_those_of_the_code() -> None:
    """Where counts stop, how long a section may take, how much a chart looks at."""
    assert 'Counts stop at 10,000, and say so ("10,000+")' in OVERVIEW
    assert COUNTED == COUNTED_THERE == 10_000
    assert "longer than a second in the database" in OVERVIEW
    limits = [each.limit for each in sections("overview") if not each.lazy]
    assert set(limits) == {Section.__dataclass_fields__["limit"].default} == {1.0}
    assert f"at most {LOOKED_AT:,} rows of a kind" in OVERVIEW


@pytest.mark.parametrize("picture", sorted(PICTURES.glob("*.png")), ids=lambda each: each.stem)
def test_a_picture_is_small_and_shown(picture: Path) -> None:
    """As wide as a window, and on some page."""
    texts = [each.read_text() for each in (*DOCS.rglob("*.md"), DOCS.parent / "README.md")]

    assert picture.stat().st_size < LARGEST
    with Image.open(picture) as image:
        assert image.width == 1400
    assert any(f"pictures/{picture.name})" in text for text in texts)
